"""Transfer: tickets fine-tuned on other languages and tasks, each (ticket, target language, seed) cell once.

:mod:`~lnsub.tickets.finding` finds the tickets, :mod:`~lnsub.transfer.cells` plans the cells,
:mod:`~lnsub.transfer.cell_fit` fine-tunes one, :mod:`~lnsub.transfer.cell_folder` keeps what came of it, and
:mod:`~lnsub.transfer.runner` goes over all that are not done. Planning needs no torch.
"""
