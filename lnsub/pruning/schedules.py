"""The sparsity of each round."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from lnsub.common.errors import UserError
from lnsub.common.lookup import lookup

DECIMALS = 6
"""Decimals by which sparsities are told apart, in the names of ticket files too."""


def sparsities(
    schedule: str,
    *,
    levels: Sequence[float] | None = None,
    rate: float | None = None,
    rounds: int | None = None,
) -> tuple[float, ...]:
    """Computes the sparsity after each pruning step.

    Args:
        schedule: a key of :data:`SCHEDULES`: ``linear`` or ``geometric``.
        levels: for ``linear`` only, see :func:`linear`.
        rate: for ``geometric`` only, see :func:`geometric`.
        rounds: for ``geometric`` only.

    Returns:
        The sparsities of rounds 1, 2, ..., R: shares of all prunable weights, strictly increasing, in (0, 1). The dense
        round 0 is not included.

    Raises:
        UserError: the schedule is unknown; an option is missing, out of range, or belongs to another schedule.
    """
    compute = lookup("schedule", schedule, SCHEDULES)
    options = {"levels": levels, "rate": rate, "rounds": rounds}
    given = {name: value for name, value in options.items() if value is not None}
    wanted = inspect.signature(compute).parameters
    for name in options:
        if name in given and name not in wanted:
            raise UserError(f"The {schedule} schedule has no option {name}, only {' and '.join(wanted)}.")
        if name in wanted and name not in given:
            raise UserError(f"The {schedule} schedule needs the option {name}.")
    return compute(**given)


def linear(levels: Sequence[float]) -> tuple[float, ...]:
    """Returns the sparsities as listed.

    Foroutan et al. (2022) and Chen et al. (2020, https://arxiv.org/abs/2007.12223) use 0.1, 0.2, ..., 0.9; a single
    level is one-shot pruning.

    Args:
        levels: at least one share of all prunable weights, in (0, 1), strictly increasing.

    Returns:
        The levels.

    Raises:
        UserError: there are no levels, or they are out of range or order.
    """
    if not levels:
        raise UserError("The linear schedule needs at least one sparsity.")
    for level in levels:
        if not 0 < round(level, DECIMALS) < 1:
            raise UserError(f"A sparsity must be above 0 and below 1 (to {DECIMALS} decimals), not {level}.")
    for before, after in pairwise(levels):
        if round(after, DECIMALS) <= round(before, DECIMALS):
            raise UserError(
                f"Sparsities must increase from round to round (to {DECIMALS} decimals): {after} follows {before}."
            )
    return tuple(float(level) for level in levels)


def geometric(rate: float, rounds: int) -> tuple[float, ...]:
    """Returns sparsities that prune the same share of the remaining weights in each round: s_r = 1 - (1 - rate)^r.

    The schedule of Frankle & Carbin (2019, https://arxiv.org/abs/1803.03635, section 1), with their rate being 0.2.

    Args:
        rate: share of the kept weights that each round prunes, in (0, 1).
        rounds: number of pruning steps, at least 1.

    Returns:
        ``rounds`` sparsities.

    Raises:
        UserError: an argument is out of range, or nothing is left to prune in the last rounds.
    """
    if not 0 < rate < 1:
        raise UserError(f"The rate must be above 0 and below 1, not {rate}.")
    if rounds < 1:
        raise UserError(f"The geometric schedule needs at least 1 round, not {rounds}.")
    # expm1 and log1p avoid the cancellation in 1 - (1 - rate)**r for small rates.
    result = tuple(-math.expm1(r * math.log1p(-rate)) for r in range(1, rounds + 1))
    rounded = [round(level, DECIMALS) for level in (0.0, *result, 1.0)]
    if any(after <= before for before, after in pairwise(rounded)):
        raise UserError(
            f"With {rounds} rounds at a rate of {rate} some round has nothing to prune (to {DECIMALS} decimals): use "
            "fewer rounds, or another rate."
        )
    return result


SCHEDULES: Mapping[str, Callable[..., tuple[float, ...]]] = {"linear": linear, "geometric": geometric}
"""The schedules by their name in configurations."""
