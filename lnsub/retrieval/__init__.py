"""Sentence retrieval across languages: is a sentence's translation its nearest neighbour, layer by layer?

:mod:`~lnsub.retrieval.pairs` reads parallel sentences, :mod:`~lnsub.retrieval.embedding` embeds them by the states of
each layer, :mod:`~lnsub.retrieval.margin` matches them, :mod:`~lnsub.retrieval.measure` brings it together.
"""
