"""Sentence retrieval across languages: is a sentence's translation its nearest neighbour, layer by layer?

:mod:`sentence_pairs` reads parallel sentences, :mod:`embedding` embeds them by the states of each layer, :mod:`margin`
matches them, and :mod:`measure` puts it together.
"""
