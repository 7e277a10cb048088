"""The plan of a study: what its jobs are, that they are commands, and that they need each other in an order.

The cells of its transfers are held against those of a single `lnsub transfer` over everything.
"""

import json
from collections import Counter
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from lnsub.cli import commands
from lnsub.common.errors import UserError
from lnsub.runs.folder import RunFolder
from lnsub.study.file import read_study
from lnsub.study.job import KINDS, Job
from lnsub.study.leaves import CellsLeft, RunLeft
from lnsub.study.plan import Plan, make_plan
from lnsub.tickets.finding import find_tickets
from lnsub.transfer.cells import Cell
from lnsub.transfer.cells import plan as cells_of
from tests.support.study_plans import check_commands, check_order, check_places
from tests.support.study_world import write_study
from tests.support.ticket_factory import random_ticket

Planned = Callable[..., Plan]

XNLI = {"config": "xnli.yaml", "languages": ["aa", "bb"]}
NER = {"config": "wikiann.yaml", "languages": ["bb", "cc", "aa+bb"]}
SENTENCES: dict[str, Any] = {"texts": "facebook/xnli", "column": "premise", "languages": ["fr", "ur"], "max_pairs": 8}
WHOLE: dict[str, Any] = {
    "seeds": [5, 6],
    "tasks": {"xnli": XNLI, "wikiann": {**NER, "transfer_sparsities": [0.3]}},
    "transfer": {
        "sparsities": [0.3, 0.6],
        "baselines": ["dense", "random", "inherited", "shuffled", "reinit", "oneshot", "random_from:0.3"],
        "across_tasks": ["bb"],
        "zero_shot": True,
        "test": True,
    },
    "retrieval": {**SENTENCES, "tickets": {"sparsities": [0.6]}, "top": [1, 5], "layers": [0, 2]},
    "similarity": {
        **SENTENCES,
        "tickets": {"sparsities": [0.3, 0.6], "tasks": ["xnli"], "own": True},
        "measures": ["cka"],
    },
    "report": {"page": "page.html", "sparsities": [0.3], "figures": "figures", "formats": ["pdf", "svg"]},
}
"""Everything that a study can have."""
NO_TRANSFER_OF_NER = {"xnli": XNLI, "wikiann": NER}


STUDIES: dict[str, dict[str, Any]] = {
    "whole": WHOLE,
    "a single ticket": {"tasks": {"xnli": {**XNLI, "languages": ["aa"]}}, "transfer": None},
    "a mixture and targets of no ticket": {
        "tasks": {"wikiann": {**NER, "languages": ["aa+bb", "bb"]}},
        "transfer": {
            "sparsities": [0.3, 0.6],
            "baselines": ["dense", "random"],
            "languages": ["cc", "aa"],
            "zero_shot": True,
        },
    },
    "own tickets of several seeds": {**WHOLE, "seeds": [1, 2, 3], "transfer": None},
}


@pytest.mark.parametrize("name", STUDIES)
def test_jobs_are_commands_in_the_order_of_their_needs(name, planned: Planned):
    plan = planned(**STUDIES[name])
    check_order(plan.jobs)
    check_commands(plan.jobs)
    check_places(plan.jobs)
    assert all(job.kind in KINDS for job in plan.jobs)


def test_a_whole_study_has_every_job_that_it_names(planned: Planned):
    plan = planned(**WHOLE)
    sources = [("xnli", "aa"), ("xnli", "bb"), ("wikiann", "bb"), ("wikiann", "cc"), ("wikiann", "aa+bb")]
    named = {f"{task}-{language}-seed{seed}" for (task, language), seed in product(sources, (5, 6))}
    ids = {kind: {job.id for job in plan.of_kind(kind)} for kind in KINDS}
    assert ids["fetch"] == {"fetch-retrieve", "fetch-similarity"}
    assert ids["tokenise"] == {
        "tokenise-xnli-aa",
        "tokenise-xnli-bb",
        "tokenise-wikiann-bb",
        "tokenise-wikiann-cc",
        # Of a mixture, what is drawn depends on the seed.
        "tokenise-wikiann-aa+bb-seed5",
        "tokenise-wikiann-aa+bb-seed6",
    }
    assert ids["fit"] == {f"fit-{name}" for name in named}
    assert ids["transfer"] == {f"transfer-{name}" for name in named}
    assert ids["zero-shot"] == {f"zero-shot-{name}" for name in named}
    assert ids["across"] == {
        f"across-{one}-to-{other}-bb-seed{seed}"
        for one, other, seed in (
            ("xnli", "wikiann", 5),
            ("wikiann", "xnli", 5),
            ("xnli", "wikiann", 6),
            ("wikiann", "xnli", 6),
        )
    }
    assert ids["retrieve"] == {"retrieve-dense", *(f"retrieve-{name}" for name in named)}
    assert ids["similarity"] == {"similarity-dense", "similarity-xnli-own-seed5", "similarity-xnli-own-seed6"}
    needs = {job.id: job.needs for job in plan.jobs}
    assert needs["transfer-wikiann-aa+bb-seed6"] == ("fit-wikiann-aa+bb-seed6",)
    assert needs["fit-wikiann-aa+bb-seed6"] == ("tokenise-wikiann-aa+bb-seed6",)
    assert needs["across-xnli-to-wikiann-bb-seed5"] == ("fit-xnli-bb-seed5",)
    assert needs["similarity-xnli-own-seed5"] == ("fit-xnli-aa-seed5", "fit-xnli-bb-seed5")
    # A fit's counterpart among the transfers has its number, so that SLURM starts it as soon as that fit has ended.
    places = {job.id: job.place for job in plan.jobs}
    assert all(
        places[f"{kind}-{name}"] == places[f"fit-{name}"] for kind in ("transfer", "zero-shot") for name in named
    )


def save_tickets(plan: Plan) -> None:
    """Puts a ticket wherever the plan says that one will be."""
    for job in plan.of_kind("fit"):
        assert isinstance(job.leaves, RunLeft)
        _, task, language, seed, *_ = job.id.split("-")
        for number, sparsity in enumerate((0.3, 0.6)):
            path = RunFolder(Path(job.leaves.folder)).ticket(sparsity)
            found = {"task": task, "language": language, "seed": int(seed.removeprefix("seed")), "sparsity": sparsity}
            random_ticket(1 - sparsity, hash((job.place, number)) % 2**16, **found).save(path)


def cells(leaves: CellsLeft) -> list[Cell]:
    return cells_of(
        find_tickets(leaves.tickets),
        leaves.task,
        leaves.languages,
        [leaves.seed],
        leaves.baselines,
        baselines_on=leaves.baselines_on,
        zero_shot=leaves.zero_shot,
    )


CASES = {
    "two tasks": ({"xnli": XNLI, "wikiann": NER}, None),
    "one language": ({"xnli": {**XNLI, "languages": ["bb"]}}, None),
    "targets of no ticket": ({"wikiann": {**NER, "languages": ["aa+bb", "bb"]}}, ["cc", "bb", "aa"]),
    "no target of a ticket": ({"wikiann": NER, "xnli": XNLI}, ["aa"]),
    "the mixture as a target": ({"wikiann": NER}, ["cc", "aa+bb"]),
}


@pytest.mark.parametrize("zero_shot", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_the_cells_of_all_jobs_are_those_of_one_transfer_each_once(name, zero_shot, planned: Planned):
    tasks, targets = CASES[name]
    baselines = ["dense", "random", "inherited", "shuffled", "reinit", "oneshot", "random_from"]
    transfer = {"sparsities": [0.3, 0.6], "baselines": baselines, "languages": targets, "zero_shot": zero_shot}
    plan = planned(seeds=[5, 6], tasks=tasks, transfer=transfer)
    save_tickets(plan)
    kind = "zero-shot" if zero_shot else "transfer"
    found: list[Cell] = []
    for job in plan.of_kind(kind):
        assert isinstance(job.leaves, CellsLeft)
        own = cells(job.leaves)
        # What the estimates count is what there will be.
        assert job.work.fits == len(own), job.id
        found += own
    whole: list[Cell] = []
    for task, seed in product(tasks, (5, 6)):
        tickets = find_tickets([f"{plan.folder}/{task}/*/seed{seed}/tickets/s*.safetensors"])
        languages = targets or [language for language in tasks[task]["languages"] if "+" not in language]
        whole += cells_of(tickets, task, languages, [seed], baselines, zero_shot=zero_shot)
    assert Counter(cell.id for cell in found) == Counter(cell.id for cell in whole)
    assert {cell.id: cell.prunes for cell in found} == {cell.id: cell.prunes for cell in whole}
    assert {cell.id: cell.targets for cell in found} == {cell.id: cell.targets for cell in whole}


def test_runs_apart_and_transfers_with_other_seeds_are_jobs_of_their_own(planned: Planned):
    """The design of a controlled comparison: two samples of rows, two seeds, a floor; transfers on the other rows."""
    conditions = [
        {"train_sample": 1, "seeds": [5]},
        {"labels": "shuffled", "head_seed": 6, "languages": ["bb"], "transfer": True},
    ]
    transfer = {
        "sparsities": [0.6],
        "baselines": ["inherited", "shuffled"],
        "ticket_seeds": [5],
        "seeds": [7, 8],
        "settings": {"data.init_args.train_sample": 1},
    }
    task = {**XNLI, "conditions": conditions, "settings": {"data.init_args.max_train_examples": 6}}
    plan = planned(seeds=[5, 6], tasks={"xnli": task}, transfer=transfer)
    check_order(plan.jobs)
    check_commands(plan.jobs)
    fits = {job.id: job for job in plan.of_kind("fit")}
    plain = {f"fit-xnli-{language}-seed{seed}" for language in ("aa", "bb") for seed in (5, 6)}
    samples = {f"fit-xnli-{language}-seed5-sample1" for language in ("aa", "bb")}
    assert set(fits) == {*plain, *samples, "fit-xnli-bb-seed5-head6-shuffled", "fit-xnli-bb-seed6-shuffled"}
    assert "--data.init_args.train_sample=1" in fits["fit-xnli-aa-seed5-sample1"].args
    assert {"--head_seed=6", "--data.init_args.labels=shuffled"} <= set(fits["fit-xnli-bb-seed5-head6-shuffled"].args)
    assert not any("sample" in option or "labels" in option for option in fits["fit-xnli-aa-seed5"].args)

    save_tickets(plan)
    found: Counter[str] = Counter()
    for job in plan.of_kind("transfer"):
        assert isinstance(job.leaves, CellsLeft)
        assert "--data.init_args.train_sample=1" in job.args
        assert job.work.fits == len(cells(job.leaves)), job.id
        found.update((c.seed, c.variant, c.language, c.row) for c in cells(job.leaves))
    own = [(seed, row) for seed in (7, 8) for row in ("aa", "bb")]
    apart = [(seed, "bb") for seed in (7, 8) for _ in range(2)]  # shuffled labels with either seed
    for variant, label in (("ticket", ""), ("shuffled", " shuffled")):
        rows = [(seed, f"{row}{label}") for seed, row in own + apart]
        wanted = Counter((seed, variant, target, row) for seed, row in rows for target in ("aa", "bb"))
        assert Counter({key: n for key, n in found.items() if key[1] == variant}) == wanted
    once = {key: n for key, n in found.items() if key[1] == "inherited"}
    assert once == {(seed, "inherited", target, "inherited"): 1 for seed in (7, 8) for target in ("aa", "bb")}


def test_what_is_typed_is_what_is_waited_for(planned: Planned):
    """The command line of a transfer and what the plan holds for its leaves name the same cells."""
    plan = planned(**WHOLE)
    for job in [*plan.of_kind("transfer"), *plan.of_kind("zero-shot"), *plan.of_kind("across")]:
        options = commands.parser_of("transfer").parse_args(job.args[1:])
        leaves = job.leaves
        assert isinstance(leaves, CellsLeft)
        assert tuple(options.tickets) == leaves.tickets
        assert tuple(options.languages.split(",")) == leaves.languages
        assert options.seeds == str(leaves.seed)
        assert str(options.output) == leaves.output
        assert tuple(filter(None, options.baselines.split(","))) == leaves.baselines
        assert tuple(filter(None, (options.baselines_on or "").split(","))) == leaves.baselines_on
        assert options.zero_shot == leaves.zero_shot
        assert options.test == (leaves.test_by is not None)


REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a language without data": ({"tasks": {"xnli": {**XNLI, "languages": ["aa", "dd"]}}}, ["tasks.xnli", "dd"]),
    "a target without data": ({"transfer": {"sparsities": [0.6], "languages": ["dd"]}}, ["tasks.xnli", "dd"]),
    "a baseline": ({"transfer": {"sparsities": [0.6], "baselines": ["dens"]}}, ["dens", "did you mean dense?"]),
    "a sparsity": ({"transfer": {"sparsities": [0.5]}}, ["transfer.sparsities has 0.5", "0.3, 0.6"]),
    "a sparsity of a task": (
        {"tasks": {"xnli": {**XNLI, "transfer_sparsities": [0.4]}}},
        ["tasks.xnli.transfer_sparsities has 0.4"],
    ),
    "a sparsity of sentences": (
        {"retrieval": {"pairs": ["p"], "tickets": {"sparsities": [0.5]}}},
        ["retrieval.tickets.sparsities has 0.5"],
    ),
    "a configuration of another task": ({"tasks": {"mlm": XNLI}}, ["tasks.mlm", "call it xnli"]),
    "a configuration that is not there": ({"tasks": {"xnli": {**XNLI, "config": "no.yaml"}}}, ["no.yaml"]),
    "a setting of a run": ({"settings": {"trainer.max_epoch": 1}}, ["max_epoch", "did you mean max_epochs?"]),
    "a run without tickets": ({"settings": {"trainer.callbacks": None}}, ["tasks.xnli", "lnsub.IMPCallback"]),
    "a base model": ({"base_model": "./none"}, ["none"]),
    "a language of one task": (
        {"tasks": {"xnli": XNLI, "wikiann": NER}, "transfer": {"sparsities": [0.6], "across_tasks": ["cc"]}},
        ["transfer.across_tasks has cc"],
    ),
    "a measure": ({"similarity": {"pairs": ["p"], "measures": ["ckaa"]}}, ["ckaa", "did you mean cka?"]),
    "settings of transfers": (
        {"transfer": {"sparsities": [0.6], "config": {"xnli": "layer.yaml"}}},
        ["max_epoch", "did you mean max_epochs?"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_study_that_cannot_run_is_refused_before_anything_does(name, planned: Planned, study_world, tmp_path):
    (study_world / "layer.yaml").write_text("trainer: {max_epoch: 1}\n")
    changes, facts = REFUSED[name]
    with pytest.raises(UserError) as raised:
        planned(**changes)
    assert "\n" not in str(raised.value)
    for fact in facts:
        assert fact in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_a_callback_by_its_class_alone_is_found(planned: Planned):
    settings = {"trainer.callbacks": "lnsub.IMPCallback", "trainer.callbacks.sparsities": [0.3, 0.6]}
    plan = planned(settings=settings)
    assert [job.work.fits for job in plan.of_kind("fit")] == [3, 3]


def test_work_is_what_the_configuration_says(planned: Planned):
    plan = planned(settings={"data.init_args.max_train_examples": 24})
    work = plan.of_kind("fit")[0].work
    # Two blocks of 16 by 16: 12 h² weights each; every round validates once an epoch and once at its end.
    assert (work.fits, work.epochs, work.steps, work.batch, work.rows) == (3, 1, None, 8, 24)
    assert (work.weights, work.measured) == (2 * 12 * 16 * 16, 6)
    steps = planned(settings={"trainer.max_epochs": -1, "trainer.max_steps": 7}).of_kind("fit")[0].work
    assert (steps.epochs, steps.steps) == (None, 7)


def test_a_plan_is_kept_until_something_that_it_depends_on_changes(study_world, tmp_path):
    config = tmp_path / "xnli.yaml"
    config.write_text((study_world / "xnli.yaml").read_text())
    path = write_study(tmp_path, tasks={"xnli": XNLI}, transfer=None)
    kept = tmp_path / "out" / "study" / "plan.json"
    made = make_plan(read_study(path))
    assert make_plan(read_study(path)) == made

    def marked() -> bool:
        """Whether the next plan is read from the file, which gets a sign that no plan makes."""
        found = json.loads(kept.read_text())
        found["jobs"] = found["jobs"][:1]
        kept.write_text(json.dumps(found))
        return len(make_plan(read_study(path)).jobs) == 1

    assert marked()
    settings = yaml.safe_load(config.read_text())
    settings["trainer"]["callbacks"][0]["init_args"]["sparsities"] = [0.2]
    config.write_text(yaml.safe_dump(settings))
    assert not marked()
    assert make_plan(read_study(path)).of_kind("fit")[0].leaves.shown.endswith("(1 tickets)")
    assert marked()
    write_study(tmp_path, tasks={"xnli": XNLI}, transfer=None, seeds=[7])
    assert not marked()
    for broken in ("", "[1]", "{}", '{"digest": 1}', kept.read_text()[:-40], kept.read_text().replace('"kind"', '"k"')):
        kept.write_text(broken)
        assert [job.kind for job in make_plan(read_study(path)).jobs] == [
            "tokenise",
            "tokenise",
            "fit",
            "fit",
            "report",
        ]


def test_a_job_comes_back_from_the_file_as_it_was(planned: Planned):
    for job in planned(**WHOLE).jobs:
        assert Job.from_plain(json.loads(json.dumps(job.to_plain()))) == job
