"""Sentence retrieval across languages: is a sentence's translation its nearest neighbour, layer by layer?

``sentence_pairs`` reads parallel sentences, ``embedding`` embeds them by the states of each layer, ``margin`` matches
them, and ``measure`` puts it together.
"""
