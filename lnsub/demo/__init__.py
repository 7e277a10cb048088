"""The embedded default: a small pre-trained multilingual model, small data, and the scripts that rebuilt them.

``model/`` and ``data/`` are shipped with the package and need no network. :mod:`lnsub.demo.make_tokenizer` and
:mod:`lnsub.demo.make_data` wrote their tokenizer, model configuration and data sets, and write them again.
"""
