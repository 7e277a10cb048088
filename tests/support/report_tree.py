"""A tree of runs for the tests of the report: records and small tickets made from formulas, no training."""

import math
from pathlib import Path

import numpy as np

from lnsub.runs.examples import Examples
from lnsub.runs.folder import RunFolder
from lnsub.runs.records import Record, append
from lnsub.tickets.ticket import Ticket
from tests.support.ticket_factory import ticket

MODEL = "../models/tiny-mbert"
LANGUAGES = {"xnli": ("ar", "fr", "zh"), "wikiann": ("ar", "fr", "ru", "ur", "zh"), "mlm": ("fr", "ru", "ur")}
LEVELS = tuple(round(0.1 * step, 1) for step in range(1, 10))
CHOSEN = (0.5, 0.8)
METRIC = {"xnli": "accuracy", "wikiann": "f1", "mlm": "perplexity"}
N = {"xnli": 1245, "wikiann": 2000, "mlm": 300}
SEED = 57
# How far fine-tuning moves the weights: the share of a ticket's scores that is its own.
MOVED = {"wikiann": 0.1, "xnli": 0.3, "mlm": 0.9}

KINDS = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
MATRICES = {
    f"encoder.layer.{layer}.{kind}.weight": (12, 12)
    for layer in range(3)
    for kind in (*KINDS, "intermediate.dense", "output.dense")
}


def theta_0() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape) for name, shape in MATRICES.items()}


def magnitude_masks(weights: dict[str, np.ndarray], sparsity: float) -> dict[str, np.ndarray]:
    """Keeps the largest weights over all matrices."""
    flat = np.sort(np.concatenate([np.abs(w).ravel() for w in weights.values()]))
    threshold = flat[round(sparsity * flat.size)]
    return {name: np.abs(w) >= threshold for name, w in weights.items()}


def imp_ticket(task: str, language: str, seed: int, sparsity: float) -> Ticket:
    rng = np.random.default_rng([seed, *map(ord, task), *map(ord, language)])
    theta = theta_0()
    shared = np.random.default_rng([7, *map(ord, task)])
    moved = {
        name: w + MOVED[task] * (shared.standard_normal(w.shape) + rng.standard_normal(w.shape)) / math.sqrt(2)
        for name, w in theta.items()
    }
    masks = magnitude_masks(moved, sparsity)
    return ticket(masks, base_model=MODEL, task=task, language=language, seed=seed, sparsity=sparsity)


def inherited_ticket(sparsity: float) -> Ticket:
    masks = magnitude_masks(theta_0(), sparsity)
    named = {"task": "inherited", "language": "inherited", "score": "magnitude_init", "schedule": "one-shot"}
    return ticket(masks, base_model=MODEL, sparsity=sparsity, seed=-1, round=-1, **named)


def record(kind: str, task: str, source: str | None, target: str, value: float, **changes: object) -> Record:
    values: dict = {
        "kind": kind,
        "task": task,
        "model": MODEL,
        "source": source,
        "target": target,
        "sparsity": 0.5,
        "score": "magnitude",
        "init": "pretrained",
        "seed": SEED,
        "round": None,
        "split": "validation",
        "metric": METRIC.get(task, "accuracy"),
        "value": value,
        "n": N.get(task, 100),
        "wall_s": 12.5,
        "ticket": None,
    }
    return Record(**(values | changes))


def append_measured(path: Path, records: list[Record]) -> None:
    """Appends records, and beside them examples that are all alike, so that no resampling changes their metric."""
    for one in records:
        if one.metric == METRIC.get(one.task):
            sums = {
                "accuracy": {"correct": one.value, "pairs": 1.0},
                "f1": {"hits": one.value, "predicted": 1.0, "gold": 1.0},
                "perplexity": {"nats": math.log(one.value), "tokens": 1.0},
            }[one.metric]
            columns = {name: np.full(10, value) for name, value in sums.items()}
            Examples(np.arange(10), columns).save(RunFolder(path.parent).examples(one))
    append(path, records)


def matches(task: str, value: float, reference: float) -> bool:
    """Whether a value of one seed and of such examples matches another: one point, or 5 % of a perplexity."""
    return value <= 1.05 * reference if task == "mlm" else value >= reference - 0.01


def quality(task: str, share: float) -> float:
    """A value of the task's main metric, from a share that is higher the better: of MLM a perplexity."""
    return 20 * (1 - share) ** 2 if task == "mlm" else share


def own_share(task: str, language: str, sparsity: float) -> float:
    """How good a language's own ticket is: nearly flat, then falling."""
    dense = {"xnli": 0.62, "wikiann": 0.81, "mlm": 0.34}[task] - 0.013 * LANGUAGES[task].index(language)
    return dense - 0.12 * max(sparsity - 0.45, 0.0) ** 2 * (3 + LANGUAGES[task].index(language))


def own_value(task: str, language: str, sparsity: float, worse: float = 0.0) -> float:
    """The metric of a language's own ticket, or of one that is so much worse."""
    return quality(task, own_share(task, language, sparsity) - worse)


def transfer_value(task: str, source: str, target: str, sparsity: float) -> float:
    if source == target:
        return own_value(task, target, sparsity)
    far = 1 + abs(LANGUAGES[task].index(source) - LANGUAGES[task].index(target))
    return own_value(task, target, sparsity, 0.02 * sparsity * far)


def write_imp(root: Path, task: str, language: str, seed: int = SEED, levels: tuple[float, ...] = LEVELS) -> None:
    folder = RunFolder.of(root, task, language, seed)
    rows = []
    for number, sparsity in enumerate((0.0, *levels)):
        mask = imp_ticket(task, language, seed, sparsity) if number else None
        if mask is not None:
            mask.save(folder.ticket(sparsity))
        facts = {
            "sparsity": sparsity,
            "round": number,
            "seed": seed,
            "ticket": mask.checksum if mask else None,
        }
        value = own_value(task, language, sparsity)
        rows.append(record("imp", task, language, language, value, **facts))
        rows.append(record("imp", task, language, language, 0.123, **facts, metric="loss"))
    append_measured(folder.results, rows)
    folder.config.write_text(
        f"""seed_everything: {seed}
trainer:
  max_epochs: 3
  callbacks:
    - class_path: lnsub.IMPCallback
      init_args:
        sparsities: [0.1, 0.9]
        scope: global
model:
  base_model: {MODEL}
  learning_rate: 2.0e-05
data:
  class_path: lnsub.{task}
  init_args:
    language: {language}
    batch_size: 32
output: somewhere
""",
        encoding="utf-8",
    )


def write_transfer(root: Path, task: str, levels: tuple[float, ...] = CHOSEN) -> None:
    """Every ticket on every language, zero-shot and the baselines, a folder a cell as `lnsub transfer` has it."""
    cells: list[Record] = []
    for sparsity in levels:
        for source in LANGUAGES[task]:
            checksum = imp_ticket(task, source, SEED, sparsity).checksum
            facts = {"sparsity": sparsity, "ticket": checksum}
            for target in LANGUAGES[task]:
                value = transfer_value(task, source, target, sparsity)
                cells.append(record("transfer", task, source, target, value, **facts))
                zero_shot = value if source == target else own_value(task, target, sparsity, 0.15)
                cells.append(record("zero_shot", task, source, target, zero_shot, **facts))
            made = (("shuffled", "f", 0.05), ("oneshot", "e", 0.01), ("random_from:0.1", "c", 0.11))
            for score, letter, worse in (*made, ("random_from:0.2", "b", 0.09)):
                value = own_value(task, source, sparsity, worse)
                changes = facts | {"ticket": letter * 64, "score": score}
                cells.append(record("transfer", task, source, source, value, **changes))
            value = own_value(task, source, sparsity, 0.3)
            cells.append(record("transfer", task, source, source, value, **facts, init="random"))
            value = own_value(task, source, sparsity, 0.12)
            changes = facts | {"ticket": "d" * 64, "score": "random"}
            cells.append(record("transfer", task, None, source, value, **changes))
            value = own_value(task, source, sparsity, 0.03)
            changes = facts | {"ticket": inherited_ticket(sparsity).checksum, "score": "magnitude_init"}
            cells.append(record("transfer", task, None, source, value, **changes))
    for target in LANGUAGES[task]:
        dense = own_value(task, target, 0.0)
        cells.append(record("transfer", task, None, target, dense, sparsity=0.0, score=None))
    for number, cell in enumerate(cells):
        append_measured(root / "transfer" / task / "cells" / f"cell{number:03}" / "results.jsonl", [cell])


def write_retrieval(root: Path) -> None:
    rows = []
    for place, target in enumerate(("ar", "fr", "zh")):
        for layer in range(4):
            dense = 0.2 + 0.05 * place + 0.1 * layer * (3.4 - layer)
            for metric, shift in (("accuracy", 0.0), ("accuracy@5", 0.02), ("from_pivot", 0.01)):
                facts = {"split": "pairs", "metric": f"{metric}/mean/ratio-4", "layer": layer, "n": 500}
                rows.append(
                    record("retrieval", "retrieval", None, target, dense + shift, **facts, sparsity=0.0, score=None)
                )
                for sparsity in CHOSEN:
                    checksum = imp_ticket("wikiann", "fr", SEED, sparsity).checksum
                    value = dense - 0.2 * sparsity + shift
                    facts_of_it = facts | {"sparsity": sparsity, "ticket": checksum}
                    rows.append(record("retrieval", "retrieval", "fr", target, value, **facts_of_it))
    append(root / "retrieval" / "results.jsonl", rows)


def mixture_value(target: str, sparsity: float) -> float:
    """The perplexity of the ticket of fr and ru together: better than either's on ur, worse than ur's own."""
    return own_value("mlm", target, sparsity, 0.005)


def part_value(target: str, sparsity: float) -> float:
    """The perplexity of the mixture's rounds on one of its languages, unlike any other."""
    return own_value("mlm", target, sparsity, 0.017)


def write_mixture(root: Path) -> None:
    rows = []
    for sparsity in CHOSEN:
        facts = {"sparsity": sparsity, "ticket": "c" * 64, "source_task": "mlm"}
        rows += [record("transfer", "mlm", "fr+ru", t, mixture_value(t, sparsity), **facts) for t in LANGUAGES["mlm"]]
    append(root / "transfer" / "mixture" / "results.jsonl", rows)
    # Its rounds, measured on each of its languages too, and a transfer to it, which is none.
    facts = {"ticket": None, "trained_on": "fr+ru"}
    rows = [
        record("part", "mlm", "fr+ru", t, part_value(t, sparsity), **facts, sparsity=sparsity, round=number)
        for number, sparsity in enumerate((0.0, *CHOSEN))
        for t in ("fr", "ru")
    ]
    rows.append(record("part", "mlm", "ur", "fr", 99.0, **facts, sparsity=CHOSEN[0]))
    append(root / "mlm" / "fr+ru" / f"seed{SEED}" / "results.jsonl", rows)


def write_across(root: Path) -> None:
    """NER tickets on XNLI in the two languages that both have."""
    rows = []
    for language in ("ar", "fr"):
        for sparsity in CHOSEN:
            mask = imp_ticket("wikiann", language, SEED, sparsity)
            value = own_value("xnli", language, sparsity, 0.03)
            facts = {"sparsity": sparsity, "ticket": mask.checksum, "source_task": "wikiann"}
            rows.append(record("transfer", "xnli", language, language, value, **facts))
    for number, row in enumerate(rows):
        append_measured(root / "transfer" / "across" / f"cell{number}" / "results.jsonl", [row])


def similarity_value(measure: str, place: int, layer: int, sparsity: float = 0.0) -> float:
    start, slope = {"cka": (0.4, 0.05), "svcca": (0.5, 0.04), "pwcca": (0.8, -0.06)}[measure]
    return start + 0.03 * place + slope * layer - 0.2 * sparsity


def write_similarity(root: Path) -> None:
    """The dense model, and tickets of NER: French alone, and each language under its own."""
    rows = []
    for place, target in enumerate(("ar", "fr", "zh")):
        for measure, null in (("cka", 0.001), ("svcca", 0.2), ("pwcca", 0.3)):
            for layer in range(4):
                value = similarity_value(measure, place, layer)
                facts = {"split": "pairs", "metric": f"{measure}/first", "layer": layer, "n": 500}
                facts |= {"null": null, "null_low": null - 0.01, "null_high": null + 0.01}
                dense = facts | {"low": value - 0.02, "high": value + 0.03, "sparsity": 0.0, "score": None}
                rows.append(record("similarity", "similarity", None, target, value, **dense))
                for sparsity in CHOSEN:
                    value = similarity_value(measure, place, layer, sparsity)
                    found = facts | {"sparsity": sparsity, "low": value - 0.02, "high": value + 0.02}
                    found["ticket"] = imp_ticket("wikiann", "fr", SEED, sparsity).checksum
                    rows.append(record("similarity", "similarity", "fr", target, value, **found))
                    if target == "fr":
                        found["pivot_ticket"] = imp_ticket("wikiann", "ar", SEED, sparsity).checksum
                        rows.append(record("similarity", "similarity", "fr", target, value - 0.1, **found))
    append(root / "similarity" / "results.jsonl", rows)


def ablation_drop(source: str, target: str, sparsity: float, draw: int | None = None) -> float:
    """The rise of the loss, in nats: most of the own language's, and of random removals some."""
    if draw is not None:
        return sparsity * (0.02 + 0.01 * draw)
    near = LANGUAGES["mlm"].index(source) - LANGUAGES["mlm"].index(target)
    return sparsity * (0.9 if not near else 0.035 + 0.03 * near)


def write_ablation(root: Path, languages: tuple[str, ...] = LANGUAGES["mlm"], draws: int = 3) -> None:
    """What tickets of MLM keep, taken away: two sparsities, and random removals."""
    rows = []

    def add(source: str | None, target: str, loss: float, **facts: object) -> None:
        for metric, value in (("loss", loss), ("perplexity", math.exp(loss))):
            rows.append(record("ablation", "mlm", source, target, value, metric=metric, **facts))

    for place, target in enumerate(languages):
        dense = 2.0 + 0.3 * place
        add(None, target, dense, sparsity=0.0, score=None, removed="none", fill="zero", units=0)
        for source in languages:
            for sparsity in CHOSEN:
                facts = {"sparsity": sparsity, "fill": "zero", "units": 400, "granularity": "weight"}
                facts |= {"ticket": imp_ticket("mlm", source, SEED, sparsity).checksum}
                facts |= {"source_task": "mlm", "source_seed": SEED}
                add(source, target, dense + ablation_drop(source, target, sparsity), removed="kept", **facts)
                for draw in range(draws):
                    loss = dense + ablation_drop(source, target, sparsity, draw)
                    add(source, target, loss, removed="random", drawn_for="kept", draw=draw, **facts)
    append(root / "ablation" / "results.jsonl", rows)


def write_tree(root: Path, inherited: bool = True) -> Path:
    """All of it: three tasks, nine sparsities, two seeds of NER in two languages, a mixture, another task's tickets."""
    for task, languages in LANGUAGES.items():
        for language in languages:
            write_imp(root, task, language)
        write_transfer(root, task)
    for language in ("fr", "ur"):
        write_imp(root, "wikiann", language, seed=58)
    write_retrieval(root)
    write_mixture(root)
    write_across(root)
    write_similarity(root)
    write_ablation(root)
    for sparsity in LEVELS if inherited else ():
        inherited_ticket(sparsity).save(root / "inherited" / f"s{sparsity}.safetensors")
    return root


def write_large_tree(root: Path) -> Path:
    """Eleven languages, an encoder and a decoder of twelve layers each, and values of many digits: the tightest fit."""
    languages = ("ar", "de", "en", "es", "fa", "fr", "hi", "ru", "sw", "ur", "zh")
    kinds = ("SelfAttention.q", "SelfAttention.k", "SelfAttention.v", "SelfAttention.o", "DenseReluDense.wi_0")
    names = [
        f"{stack}.block.{layer}.layer.0.{kind}.weight"
        for stack in ("encoder", "decoder")
        for layer in range(12)
        for kind in (*kinds, "DenseReluDense.wo")
    ]
    rows = []
    for place, source in enumerate(languages):
        rng = np.random.default_rng(place)
        for sparsity in CHOSEN:
            masks = {name: rng.random((6, 6)) >= sparsity for name in names}
            facts = {"base_model": MODEL, "task": "wikiann", "language": source, "sparsity": sparsity}
            mask = ticket(masks, **facts)
            mask.save(RunFolder.of(root, "wikiann", source, SEED).ticket(sparsity))
            facts = {"sparsity": sparsity, "ticket": mask.checksum}
            rows.append(record("imp", "wikiann", source, source, 0.9 - 0.05 * place, **facts, round=1))
            for other, target in enumerate(languages):
                value = (1.0 if source == target else 0.001 + 0.09 * abs(place - other)) * (1.2 - sparsity)
                rows.append(record("transfer", "wikiann", source, target, value, **facts))
    append(root / "all" / "results.jsonl", rows)
    return root
