"""The study file: what it says is what is read, and what it cannot say is refused in one sentence that names it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lnsub.common.errors import UserError
from lnsub.study.file import read_study

TASK: dict[str, Any] = {"config": "xnli.yaml", "languages": ["fr", "ur"]}


def write(folder: Path, **changes: Any) -> Path:
    """A study file of one task, with changes by name; None takes one away."""
    settings = {"name": "s", "tasks": {"xnli": TASK}, **changes}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in settings.items() if value is not None}))
    return path


def refusal(path: Path, *overrides: str) -> str:
    """What is said of a file: one line."""
    with pytest.raises(UserError) as raised:
        read_study(path, overrides)
    line = str(raised.value)
    assert "\n" not in line
    assert "<class" not in line
    assert "lnsub.study" not in line
    assert str(path) in line
    return line


def task(**changes: Any) -> dict[str, Any]:
    return {"xnli": {name: value for name, value in {**TASK, **changes}.items() if value is not None}}


TRANSFER = {"sparsities": [0.5]}
REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "an unknown setting": ({"seed": [1]}, ["seed", "did you mean seeds?"]),
    "one of a task": ({"tasks": task(langauges=["fr"])}, ["langauges", "did you mean languages?"]),
    "one of a section": ({"transfer": {"sparsity": [0.5]}}, ["sparsity", "did you mean sparsities?"]),
    "a setting of another section": ({"sparsities": [0.5]}, ["no setting sparsities in this place"]),
    "no name": ({"name": None}, ["name"]),
    "no tasks": ({"tasks": None}, ["tasks"]),
    "tasks of none": ({"tasks": {}}, ["tasks is empty"]),
    "tasks by no name": ({"tasks": ["xnli"]}, ["tasks is", "by name"]),
    "a task of nothing": ({"tasks": {"xnli": "null"}}, ["tasks.xnli is null"]),
    "a task without configuration": ({"tasks": task(config=None)}, ["tasks", "lacks config"]),
    "a transfer without sparsities": ({"transfer": {"test": True}}, ["transfer lacks sparsities"]),
    "a section of text": ({"transfer": "dense"}, ["transfer is dense"]),
    "a section of a number": ({"report": 5}, ["report is 5"]),
    "text for a list": ({"seeds": "fr"}, ["seeds", "must be a list"]),
    "a number for a list": ({"transfer": {"sparsities": 0.5}}, ["sparsities", "must be a list"]),
    "a language that YAML takes for no": ({"tasks": task(languages=[False])}, ["languages", "quote it"]),
    "a number for text": ({"name": 5}, ["name", "Got value: 5"]),
    "text for a truth": ({"transfer": {**TRANSFER, "zero_shot": "maybe"}}, ["zero_shot", "maybe"]),
    "a seed out of bounds": ({"seeds": [-1]}, ["seeds", "from 0 to 4,294,967,295, not -1"]),
    "a sparsity out of bounds": ({"transfer": {"sparsities": [1.5]}}, ["sparsities", "below 1, not 1.5"]),
    "resources out of bounds": ({"slurm": {"nodes": 0}}, ["slurm.nodes", "not 0"]),
    "a word that is none of some": ({"retrieval": {"pairs": ["p"], "pooling": "max"}}, ["pooling", "max"]),
    "a format of figures": ({"report": {"formats": ["gif"]}}, ["report.formats", "gif"]),
    "no seeds": ({"seeds": []}, ["seeds is empty"]),
    "no languages": ({"tasks": task(languages=[])}, ["tasks.xnli.languages is empty"]),
    "no configurations": ({"tasks": task(config=[])}, ["tasks.xnli.config is empty"]),
    "no sparsities": ({"transfer": {"sparsities": []}}, ["transfer.sparsities is empty"]),
    "no targets": ({"transfer": {**TRANSFER, "languages": []}}, ["transfer.languages is empty", "leave it out"]),
    "no sparsities of a task": ({"tasks": task(transfer_sparsities=[])}, ["tasks.xnli.transfer_sparsities is empty"]),
    "no layers": ({"similarity": {"pairs": ["p"], "layers": []}}, ["similarity.layers is empty"]),
    "a language twice": ({"tasks": task(languages=["fr", "ur", "fr"])}, ["tasks.xnli.languages has fr twice"]),
    "a seed twice": ({"seeds": [0, 0]}, ["seeds has 0 twice"]),
    "a sparsity twice": ({"transfer": {"sparsities": [0.5, 0.5]}}, ["transfer.sparsities has 0.5 twice"]),
    "a name that is a path": ({"name": "a/b"}, ["a/b"]),
    "a language that is a path": ({"tasks": task(languages=["../fr"])}, ["../fr"]),
    "a page elsewhere": ({"report": "../page.html"}, ["report.page is ../page.html"]),
    "no sentences": ({"retrieval": {}}, ["retrieval needs either pairs or texts"]),
    "two kinds of sentences": ({"retrieval": {"pairs": ["p"], "texts": "t"}}, ["either pairs or texts"]),
    "sentences of no column": ({"similarity": {"texts": "t", "languages": ["fr"]}}, ["similarity.column"]),
    "a column of pairs": ({"similarity": {"pairs": ["p"], "column": "c"}}, ["similarity.column goes with texts"]),
    "tickets of an unknown task": (
        {"retrieval": {"pairs": ["p"], "tickets": {"sparsities": [0.5], "tasks": ["mlm"]}}},
        ["retrieval.tickets.tasks names mlm", "xnli"],
    ),
    "tickets of an unknown language": (
        {"retrieval": {"pairs": ["p"], "tickets": {"sparsities": [0.5], "languages": ["de"]}}},
        ["retrieval.tickets.languages has de"],
    ),
    "transfers of an unknown task": ({"transfer": {**TRANSFER, "config": {"mlm": "c"}}}, ["transfer.config", "mlm"]),
    "across a single task": ({"transfer": {**TRANSFER, "across_tasks": ["fr"]}}, ["across_tasks needs two tasks"]),
    "mixtures without targets": (
        {"tasks": task(languages=["fr+ur"]), "transfer": TRANSFER},
        ["tasks.xnli.languages has mixtures alone", "transfer.languages"],
    ),
    "a condition that is none": (
        {"tasks": task(conditions=[{"transfer": True}])},
        ["number 1", "there already: fr, seed 57, plain"],
    ),
    "a condition that is the run's own": (
        {"tasks": task(conditions=[{"head_seed": 57}])},
        ["tasks.xnli.conditions, number 1", "there already"],
    ),
    "a condition twice": (
        {"tasks": task(conditions=[{"train_sample": 1}, {"train_sample": 1, "labels": None}])},
        ["tasks.xnli.conditions, number 2", "fr, seed 57, sample1"],
    ),
    "a condition in another language": (
        {"tasks": task(conditions=[{"train_sample": 1, "languages": ["de"]}])},
        ["number 1, has de"],
    ),
    "a condition of other labels": ({"tasks": task(conditions=[{"labels": "random"}])}, ["labels", "random"]),
    "a condition out of bounds": (
        {"tasks": task(conditions=[{"train_sample": -1}])},
        ["train_sample: -1 cannot be used"],
    ),
    "an unknown condition": ({"tasks": task(conditions=[{"sample": 1}])}, ["sample"]),
    "a condition for all runs": (
        {"settings": {"data.init_args.train_sample": 1}},
        ["settings has data.init_args.train_sample", "one of a task's conditions"],
    ),
    "a seed that no ticket has": ({"transfer": {**TRANSFER, "ticket_seeds": [5]}}, ["transfer.ticket_seeds has 5"]),
    "nested settings": (
        {"settings": {"trainer": {"max_epochs": 1}}},
        ["settings.trainer", "`trainer.max_epochs: ...`"],
    ),
    "a setting that jobs differ in": ({"settings": {"output": "x"}}, ["settings has output"]),
    "one of a task that jobs differ in": (
        {"tasks": task(settings={"seed_everything": 1})},
        ["tasks.xnli.settings has seed_everything"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_file_cannot_say_is_refused_by_name(name, tmp_path):
    changes, facts = REFUSED[name]
    path = write(tmp_path, **changes)
    if name == "a task of nothing":
        path.write_text(path.read_text().replace("'null'", "null"))
    line = refusal(path)
    for fact in facts:
        assert fact in line


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("name: s\nname: t\n", "the key name twice"),
        ("name: [s\n", "cannot be read"),
        ("", "no settings by name"),
        ("- name\n", "no settings by name"),
        ("name: s\ntasks: &a {xnli: *a}\n", "cannot be read"),
        ("\xff", "cannot be read"),
    ],
)
def test_what_is_no_yaml_of_settings_is_refused(text, fact, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_bytes(text.encode("latin-1"))
    assert fact in refusal(path)


@pytest.mark.timeout(20)
def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", "missing.yaml", "."):
        assert refusal(tmp_path / name).startswith(f"There is no study file {tmp_path / name}")


def test_a_file_is_read_as_it_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").mkdir()
    path = write(
        tmp_path / "studies",
        base_model="./model",
        seeds=[1, 0],
        tasks={
            "xnli": {**TASK, "config": ["../xnli.yaml", "/far/more.yaml"], "dataset": "./data"},
            "mlm": {"config": "mlm.yaml", "languages": ["fr+ur"], "settings": {"trainer.max_epochs": 2}},
        },
        settings={"trainer.callbacks.sparsities": [0.3], "data.init_args.num_workers": None},
        transfer={"sparsities": [0.5], "languages": ["fr"], "config": {"mlm": "top.yaml"}},
        retrieval={"pairs": ["./pairs", "wmt/wmt14:fr-en"]},
        similarity={"texts": "facebook/xnli", "column": "premise", "languages": ["fr"]},
        report="page.html",
        slurm={"time": "02:00:00", "options": ["--x", "--x"]},
    )
    study = read_study(Path("studies/study.yaml"))
    # Configurations are relative to the file; other paths if they start with a dot.
    assert study.tasks["xnli"].config == ["xnli.yaml", "/far/more.yaml"]
    assert study.tasks["mlm"].config == ["studies/mlm.yaml"]
    assert study.transfer is not None
    assert study.transfer.config == {"mlm": ["studies/top.yaml"]}
    assert (study.base_model, study.tasks["xnli"].dataset) == ("studies/model", "studies/data")
    assert study.retrieval is not None
    assert study.retrieval.pairs == ["studies/pairs", "wmt/wmt14:fr-en"]
    assert study.similarity is not None
    assert study.similarity.texts == "facebook/xnli"
    assert study.output == "runs/s"
    assert study.report.page == "page.html"
    assert study.seeds == [1, 0]
    assert study.settings == {"trainer.callbacks.sparsities": [0.3], "data.init_args.num_workers": None}
    assert study.tasks["mlm"].settings == {"trainer.max_epochs": 2}
    assert (study.slurm.time, study.slurm.options) == ("02:00:00", ["--x", "--x"])
    monkeypatch.chdir("/")
    assert read_study(path).tasks["mlm"].config == [str((tmp_path / "studies" / "mlm.yaml").relative_to("/"))]


OVERRIDES = [
    ("--seeds=[1,2]", lambda study: study.seeds, [1, 2]),
    ("--base_model=m", lambda study: study.base_model, "m"),
    ("--tasks.xnli.languages=[de]", lambda study: study.tasks["xnli"].languages, ["de"]),
    ("--transfer.sparsities=[0.5]", lambda study: study.transfer.sparsities, [0.5]),
    ("--slurm.time=02:00:00", lambda study: study.slurm.time, "02:00:00"),
    ("--report.page=x.html", lambda study: study.report.page, "x.html"),
    ("--settings.trainer.max_epochs=1", lambda study: study.settings, {"a.b": "kept", "trainer.max_epochs": 1}),
    (
        "--tasks.xnli.settings.trainer.callbacks.sparsities=[0.3]",
        lambda study: study.tasks["xnli"].settings,
        {"trainer.callbacks.sparsities": [0.3]},
    ),
]


@pytest.mark.parametrize(("override", "seen", "value"), OVERRIDES, ids=[override for override, _, _ in OVERRIDES])
def test_an_override_changes_one_setting(override, seen, value, tmp_path):
    path = write(tmp_path, settings={"a.b": "kept"})
    assert seen(read_study(path, [override])) == value
    assert read_study(path).settings == {"a.b": "kept"}


@pytest.mark.parametrize(
    ("override", "fact"),
    [
        ("--nam=x", "did you mean name?"),
        ("--tasks.xnli.langs=[fr]", "langs"),
        ("--tasks.mlm.languages=[fr]", "lacks config"),
        ("--seeds=", "seeds"),
        ("--name=", "''"),
    ],
)
def test_a_bad_override_is_refused(override, fact, tmp_path):
    assert fact in refusal(write(tmp_path), override)


def test_reading_a_file_and_a_plan_that_was_made_imports_no_torch(tmp_path, root):
    code = (
        "import sys, lnsub.study.plan, lnsub.study.text, lnsub.study.runner, lnsub.study.submit\n"
        "from pathlib import Path\nfrom lnsub.study.file import read_study\n"
        f"read_study(Path({str(write(tmp_path))!r}), ['--seeds=[1]'])\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'pandas', 'altair', 'lightning'} & set(sys.modules)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
