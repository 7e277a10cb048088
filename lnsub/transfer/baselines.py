"""The baselines that tickets are compared with."""

from lnsub.common.bounds import Fraction, out_of_bounds
from lnsub.common.errors import UserError
from lnsub.common.lookup import lookup
from lnsub.tickets.provenance import RANDOM_FROM

BASELINES = {
    "random": "a random mask of the ticket's sparsity",
    "random_from": "the run's tickets of lower sparsities, pruned at random from there (random_from:0.1: that alone)",
    "inherited": "the magnitude mask of the pre-trained weights (the one-shot mask in the code of Foroutan et al.)",
    "shuffled": "the ticket's mask with the entries of each matrix randomly permuted",
    "reinit": "the ticket's mask on newly initialised weights",
    "oneshot": "the magnitude mask of a dense model fine-tuned on the source, at the ticket's sparsity",
    "dense": "the unpruned model",
}
"""Descriptions of the baselines by their name in `lnsub transfer --baselines`."""


def parse_baseline(text: str) -> tuple[str, float | None]:
    """Parses one entry of `--baselines`.

    Args:
        text: a key of :data:`BASELINES`; ``random_from`` may be followed by the sparsity to start from,
            ``random_from:0.1``.

    Returns:
        The key and the sparsity, or None.

    Raises:
        UserError: there is no such baseline, it takes no sparsity, or that is not between 0 and 1.
    """
    name, colon, start = text.partition(":")
    lookup("baseline", name, BASELINES)
    if not colon:
        return name, None
    try:
        sparsity = float(start)
    except ValueError:
        sparsity = 0.0
    if name != RANDOM_FROM or out_of_bounds(sparsity, Fraction):
        raise UserError(
            f"--baselines has '{text[:60]}': only {RANDOM_FROM} takes a sparsity, between 0 and 1, such as "
            f"{RANDOM_FROM}:0.1."
        )
    return name, sparsity
