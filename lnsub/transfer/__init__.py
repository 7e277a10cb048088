"""Transfer: fine-tuning tickets on other languages and tasks, each (ticket, target language, seed) cell once.

:mod:`~lnsub.tickets.finding` finds the tickets, :mod:`~lnsub.transfer.cells` plans the cells,
:mod:`~lnsub.transfer.cell_fit` fine-tunes one, :mod:`~lnsub.transfer.cell_folder` stores its results, and
:mod:`~lnsub.transfer.runner` runs all remaining cells. Planning needs no torch.
"""
