"""Derived results: speed relative to the authors' recipe, share of the peak, hours of whole runs."""

from collections.abc import Mapping, Sequence

from benchmarks.gpu.workload import EPOCHS, PAIRS, ROUNDS, VALIDATION, Settings
from benchmarks.harness import Claim, Row, at_least, at_most
from lnsub.training.checkpoints import EVERY_MINUTES

LANGUAGES = 10
"""Of the paper's grid: each is a source of tickets and a target for the others' tickets."""
LEVELS = 9

Facts = Mapping[str, Mapping[str, float]]


def summary(settings: Settings, facts: Facts) -> list[Row]:
    """Makes the rows that compare parts; those that depend on a failed part are omitted."""
    few, many = settings.rows
    fits, steps, large = (_best(facts, kind) for kind in ("fit: ", "step: ", "many: "))
    rows = []
    if "authors" in facts:
        theirs = facts["authors"]["examples/s"]
        measured = {name: found["examples/s"] / theirs for name, found in facts.items() if "examples/s" in found}
        rows.append(_line("times the authors' examples/s, all variants", measured))
        for name, best in (("lnsub fit", fits), ("the bare step", steps)):
            if best is not None:
                times = facts[best]["examples/s"] / theirs
                claims = [at_least(times, 10, "x the authors' examples/s")] if best is fits else []
                rows.append(_line(f"{name}, {few} examples: {best}", {"x the authors' examples/s": times}, claims))
    if "ceilings" in facts:
        measured = {
            n: 100 * found["flop/s"] / facts["ceilings"]["peak"] for n, found in facts.items() if "flop/s" in found
        }
        rows.append(_line("% of the measured matrix peak, all variants", measured))
    if "ceilings" in facts and large is not None:
        share = 100 * facts[large]["flop/s"] / facts["ceilings"]["peak"]
        claims = [at_least(share, 45, "% of the matrix peak")]
        rows.append(_line(f"{many} examples: {large}", {"% of the measured matrix peak": share}, claims))
    if fits is not None:
        minutes = _of_a_run(facts, fits)
        run = sum(minutes.values())
        name = f"one run of IMP, {ROUNDS} rounds x {EPOCHS} epochs x {PAIRS:,} pairs, by the rate of {fits}"
        whole = len(minutes) == len(_PARTS)
        rows.append(_line(name, {"minutes": run, **minutes}, [at_most(run, 30, "min")] if whole else []))
        seconds = 60 * run
        transfers = LANGUAGES * (LANGUAGES - 1) * LEVELS
        grid = {
            f"hours for the {LANGUAGES} runs of IMP": LANGUAGES * seconds / 3600,
            f"hours for {transfers} transfers": transfers * seconds / ROUNDS / 3600,
        }
        rows.append(_line("the grid on XNLI, by the same rate", grid))
    if "ceilings" in facts and "pieces" in facts:
        products = 1e3 * facts["pieces"]["flop"] / facts["ceilings"]["peak"]
        memory = 1e3 * facts["pieces"]["bytes"] / facts["ceilings"]["bandwidth"]
        bound = {"ms for its products at the peak": products, "ms for mask, clip and AdamW at the bandwidth": memory}
        rows.append(_line(f"what a step of {few} examples takes at least", bound))
    return rows


_PARTS = ("minutes of training", "of starting fits", "of validation", "between rounds", "of checkpoints")


def _of_a_run(facts: Facts, fits: str) -> dict[str, float]:
    """The minutes that a run of IMP takes for each of :data:`_PARTS`; without those that were not measured."""
    fit = facts[fits]
    training = ROUNDS * EPOCHS * PAIRS / fit["examples/s"]
    seconds = {"minutes of training": training}
    if "start" in fit:
        seconds["of starting fits"] = fit["start"] + (ROUNDS - 1) * fit["round start"]
    if "validating" in facts:
        seconds["of validation"] = ROUNDS * EPOCHS * VALIDATION / facts["validating"]["rate"]
    if "between rounds" in facts:
        seconds["between rounds"] = (ROUNDS - 1) * facts["between rounds"]["seconds"]
    if "checkpointing" in facts:  # by time, and one at the start of each round
        number = training / 60 / EVERY_MINUTES + ROUNDS
        seconds["of checkpoints"] = number * facts["checkpointing"]["seconds"]
    return {name: value / 60 for name, value in seconds.items()}


def _best(facts: Facts, kind: str) -> str | None:
    """The fastest completed part of a kind."""
    return max((name for name in facts if name.startswith(kind)), key=lambda n: facts[n]["examples/s"], default=None)


def _line(case: str, values: Mapping[str, float], claims: Sequence[Claim] = ()) -> Row:
    return Row(case, values=values, claims=claims)
