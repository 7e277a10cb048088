"""The embedded default: a small pre-trained multilingual model, small data, and the whole story told with them.

``model/`` and ``data/`` are shipped with the package and need no network; the scripts in ``tools/demo`` made them.
"""
