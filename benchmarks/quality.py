"""The metrics that the training recipes reach on the same examples: faster must not be worse."""

import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks import recipe, recipes
from benchmarks.harness import Row, at_least, in_own_process
from benchmarks.recipe import AUTHORS, LNSUB, Way
from benchmarks.recipes import Spec
from benchmarks.turns import Steps

SEEDS = (0, 1, 2)
STEPS, EPOCHS, LONGEST = 64, 4, 64  # 2,048 sentences; about 1 % of WikiANN's have more than 64 tokens
RATE = 1e-3
MODEL = "me5-tiny"


def run(quick: bool, repeats: int) -> list[Row]:
    """Fine-tunes with each recipe on French named entities, with three seeds, and measures F1 on the validation split.

    Args:
        quick: the embedded model, two steps, one seed.
        repeats: unused; the seeds are fixed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        try:
            sources = recipe.quick_sources if quick else recipe.shared_sources
            spec = next(spec for spec in sources(Path(scratch)) if spec.task == "wikiann")
        except FileNotFoundError as error:
            return [Row("not run", values={"missing": str(error)})]
        if not quick:
            spec = replace(spec, base=str(Path(spec.base).parent / MODEL), longest=LONGEST)
        lengths = spec.datamodule().table("train").data.column("length").to_numpy()
        spec = recipe.sampled(spec, recipe.typical_rows(lengths, spec.batch, 2 if quick else STEPS))
        spec = replace(spec, epochs=1 if quick else EPOCHS, learning_rate=RATE)
        seeds = SEEDS[:1] if quick else SEEDS
        found = {
            way.name: [in_own_process(reached, replace(spec, seed=seed), way) for seed in seeds]
            for way in recipe.ways()
        }
    rows = []
    for name, scores in found.items():
        mean = statistics.mean(scores)
        claims = [at_least(mean, min(found[AUTHORS]), "mean F1, the lowest of the authors'")] if name == LNSUB else []
        values = {"mean F1": mean, "lowest": min(scores), "highest": max(scores)}
        rows.append(Row(f"wikiann fr, {name}", values=values, claims=claims))
    return rows


def reached(spec: Spec, way: Way) -> float:
    """Trains with one recipe; returns the metric."""
    return recipes.score(spec, way.train(spec, *way.args, Steps()))
