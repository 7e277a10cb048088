"""What a ticket is compared with, at its own sparsity."""

BASELINES = {
    "random": "a random mask of the ticket's sparsity",
    "shuffled": "the ticket, its kept weights moved to random other places of the same matrix",
    "reinit": "the ticket, on freshly drawn weights",
    "oneshot": "the magnitude mask, at the ticket's sparsity, of one dense fine-tuning on the source",
    "dense": "the whole model",
}
"""The baselines by the name that `lnsub transfer --baselines` gives them."""
