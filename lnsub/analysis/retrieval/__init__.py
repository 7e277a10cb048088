"""Sentence retrieval across languages: is a sentence's translation its nearest neighbour, layer by layer?

``margin`` ranks translations among all sentences of the other language, and ``measure`` does so by the states of every
layer; the sentences and their states come from :mod:`lnsub.analysis.parallel`.
"""
