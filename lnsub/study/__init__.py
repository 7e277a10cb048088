"""Studies: one file that says what is to be found, the jobs that find it, and running them here or on SLURM.

:mod:`lnsub.study.file` is the file, :mod:`lnsub.study.plan` makes its jobs, :mod:`lnsub.study.runner` runs them on this
machine, :mod:`lnsub.study.submit` hands them to SLURM, and :mod:`lnsub.study.states` tells what has become of them.
"""
