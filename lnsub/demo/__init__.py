"""The demo, with a small pre-trained multilingual model and small data sets.

``model/`` and ``data/`` are part of the package and need no network; the scripts in ``tools/demo`` generate them.
"""
