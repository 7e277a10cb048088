"""The baselines that tickets are compared with."""

BASELINES = {
    "random": "a random mask of the ticket's sparsity",
    "shuffled": "the ticket's mask with the entries of each matrix randomly permuted",
    "reinit": "the ticket's mask on newly initialised weights",
    "oneshot": "the magnitude mask of a dense model fine-tuned on the source, at the ticket's sparsity",
    "dense": "the unpruned model",
}
"""Descriptions of the baselines by their name in `lnsub transfer --baselines`."""
