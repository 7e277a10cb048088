"""Parallel sentences and a model's states of them, by layer: what retrieval and similarity both measure on.

``sentence_pairs`` holds the sentences, ``sources`` finds and reads them, ``embedding`` embeds them by the states of
each layer, ``cells`` lists which sub-network embeds which language, and ``states`` goes through them.
"""
