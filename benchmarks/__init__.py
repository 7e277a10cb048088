"""What lnsub costs, measured against what a user would pick instead: ``python -m benchmarks``.

A benchmark is a module with ``run(quick, repeats) -> list[Row]`` and its line in :mod:`benchmarks.registry`.
"""
