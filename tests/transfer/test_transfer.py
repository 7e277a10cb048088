"""`lnsub transfer` from the command line to its records: which cells, what is in them, nothing lost, nothing twice."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import yaml

from lnsub.cli.main import main
from lnsub.models.subnet import Subnet
from lnsub.pruning.masks import Mask
from lnsub.runs.folder import ticket_filename
from lnsub.runs.records import Record, read, read_tree
from lnsub.tasks.task import Task
from lnsub.tasks.wikiann import WikiANN, WikiANNTask
from lnsub.tasks.xnli import XNLITask
from lnsub.tickets.finding import find_tickets
from lnsub.tickets.provenance import Provenance
from lnsub.tickets.ticket import Ticket
from lnsub.transfer.baseline_masks import random_ticket
from lnsub.transfer.cells import Cell, plan
from tests.support import ticket_factory
from tests.support.models import save_checkpoint

WORDS = [f"w{i}" for i in range(30)]
SEED = 7


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A datasets cache of this file's own, and one thread, as many threads are slow for models this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("datasets-cache")
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
        yield folder
    torch.set_num_threads(threads)


def write_rows(path: Path, seed: int, rows: int, tags: str = "ner_tags") -> None:
    """Sentences of random words; a word's tag follows from the word and the language."""
    rng = np.random.default_rng(seed)
    tag_of = np.random.default_rng(len(path.parent.name) + ord(path.parent.name[0])).integers(0, 2, len(WORDS)) * 5
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        for _ in range(rows):
            numbers = rng.integers(0, len(WORDS), 6)
            row = {"tokens": [WORDS[i] for i in numbers], tags: tag_of[numbers].tolist()}
            file.write(json.dumps(row) + "\n")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model, data in aa, bb (with a test split) and cc (without tags), a config, and a ticket of each task."""
    root = tmp_path_factory.mktemp("world")
    save_checkpoint(root / "model", WORDS, dropout=0.1)
    for language, tags in (("aa", "ner_tags"), ("bb", "ner_tags"), ("cc", "labels")):
        write_rows(root / "data" / language / "train.jsonl", 1, 32, tags)
        write_rows(root / "data" / language / "validation.jsonl", 2, 16, tags)
    write_rows(root / "data" / "bb" / "test.jsonl", 3, 12)
    config = {
        "seed_everything": SEED,
        "model": {"base_model": str(root / "model"), "learning_rate": 0.02},
        "data": {
            "class_path": "lnsub.WikiANN",
            "init_args": {"language": "aa", "dataset": str(root / "data"), "batch_size": 8, "max_length": 16},
        },
        "trainer": {
            "max_epochs": 2,
            "accelerator": "cpu",
            "gradient_clip_val": 1.0,
            "callbacks": [{"class_path": "lnsub.IMPCallback", "init_args": {"sparsities": [0.5]}}],
        },
    }
    (root / "config.yaml").write_text(yaml.safe_dump(config))
    make_ticket(root, WikiANNTask(""), "wikiann", "aa", 0.5)
    make_ticket(root, XNLITask(str(root / "model")), "xnli", "bb", 0.8)
    return root


def make_ticket(root: Path, task: Task, name: str, language: str, sparsity: float) -> Path:
    """A ticket that keeps weights drawn at random: the choice does not matter, only that it is obeyed."""
    subnet = Subnet(task.build(str(root / "model"))[0])
    rng = np.random.default_rng(ord(language[0]))
    masks = {n: torch.from_numpy(rng.permutation(np.arange(w.numel()) >= round(sparsity * w.numel()))).view(w.shape)
             for n, w in subnet.weights.items()}  # fmt: skip
    provenance = Provenance(
        base_model="tiny",
        base_fingerprint=subnet.fingerprint(),
        task=name,
        language=language,
        seed=3,
        round=5,
        sparsity=sparsity,
        score="magnitude",
        scope="global",
        schedule="linear",
    )
    mask = Mask(masks)
    path = root / "runs" / name / language / "seed3" / "tickets" / ticket_filename(sparsity)
    return Ticket(mask.to_packed(), mask.shapes, provenance).save(path)


def arguments(world: Path, output: Path, *, tickets: str = "*/*", languages: str = "aa,bb") -> list[str]:
    return [
        "transfer",
        *("--config", str(world / "config.yaml")),
        *("--tickets", str(world / "runs" / tickets / "seed3/tickets/s*.safetensors")),
        *("--languages", languages),
        *("--output", str(output)),
    ]


@pytest.fixture(scope="module")
def finished(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both tickets on both languages, undisturbed; tests only read it, or add to it."""
    output = tmp_path_factory.mktemp("finished")
    assert main([*arguments(world, output), "--keep-checkpoints", "--test"]) == 0
    return output


def values(output: Path) -> dict[tuple[object, ...], float]:
    """The values of tickets' transfers by all that tells two measurements apart; each must be there once."""
    found: dict[tuple[object, ...], float] = {}
    for r in filter(is_plain, read_tree(output)):
        key = (r.kind, r.source, r.target, r.sparsity, r.score, r.init, r.seed, r.split, r.metric, r.ticket)
        assert key not in found
        found[key] = r.value
    return found


def is_plain(record: Record) -> bool:
    """Whether it is of a ticket's transfer, and not of a baseline or zero-shot."""
    return (record.kind, record.score, record.init) == ("transfer", "magnitude", "pretrained")


def cell(output: Path, name: str) -> Path:
    (folder,) = (output / "cells").glob(name)
    return folder


def trained(folder: Path) -> dict[str, torch.Tensor]:
    """The trained weights of a cell's model, by name in the model with its head."""
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return {name.removeprefix("model."): tensor for name, tensor in state.items() if name.startswith("model.")}


def ticket_of(world: Path, task: str, language: str, sparsity: float) -> Ticket:
    return Ticket.load(world / "runs" / task / language / "seed3" / "tickets" / ticket_filename(sparsity))


def test_every_ticket_is_fine_tuned_on_every_language_once_and_recorded(world, finished):
    records = [r for r in read_tree(finished / "cells") if r.metric == "f1" and is_plain(r)]
    aa, bb = ticket_of(world, "wikiann", "aa", 0.5).checksum, ticket_of(world, "xnli", "bb", 0.8).checksum
    expected = {
        (source, target, sparsity, checksum, split, n)
        for source, sparsity, checksum in (("aa", 0.5, aa), ("bb", 0.8, bb))
        for target, split, n in (("aa", "validation", 16), ("bb", "validation", 16), ("bb", "test", 12))
    }
    assert len(records) == len(expected)
    assert {(r.source, r.target, r.sparsity, r.ticket, r.split, r.n) for r in records} == expected
    assert {(r.task, r.seed, r.round, r.model) for r in records} == {("wikiann", SEED, None, str(world / "model"))}
    assert len({r.value for r in records}) > 1  # else the comparisons of values below would say little


def test_pruned_weights_stay_zero_and_kept_ones_are_trained(world, finished):
    theta_0 = Subnet(WikiANNTask("").build(str(world / "model"))[0]).weights
    # The second ticket was found on another task, whose model has a pooler too.
    for name, ticket in (("aa", ticket_of(world, "wikiann", "aa", 0.5)), ("bb", ticket_of(world, "xnli", "bb", 0.8))):
        weights = trained(cell(finished, f"wikiann-bb-seed{SEED}-from-*-{name}-*"))
        mask = Mask.from_packed(ticket.masks, ticket.shapes)
        assert set(theta_0) <= set(mask)
        for parameter, before in theta_0.items():
            after, kept = weights[f"bert.{parameter}"], mask[parameter]
            assert torch.count_nonzero(after[~kept]) == 0
            assert (after[kept] != before[kept]).float().mean() > 0.5  # a unit that nothing leads to has no gradient


def test_a_cell_is_what_fit_makes_of_its_configuration(finished, tmp_path):
    folder = cell(finished, f"wikiann-bb-seed{SEED}-from-wikiann-aa-*")
    assert main(["fit", "--config", str(folder / "config.yaml"), "--output", str(tmp_path)]) == 0
    by_fit = {(r.kind, r.source, r.target, r.metric, r.ticket): r.value for r in read_tree(tmp_path)}
    by_cell = read(folder / "results.jsonl")
    assert by_fit == {
        (r.kind, r.source, r.target, r.metric, r.ticket): r.value for r in by_cell if r.split == "validation"
    }


def test_run_again_it_does_nothing(world, finished, capsys):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    assert main([*arguments(world, finished), "--test"]) == 0
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()} == before
    assert "sparsity 0.8" in capsys.readouterr().out


def listed(capsys: pytest.CaptureFixture[str], args: list[str], settings: Sequence[str] = ()) -> list[list[str]]:
    """What --list says: number, state and cell."""
    capsys.readouterr()
    assert main([*args, "--list", *settings]) == 0
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_one_cell_by_its_number_is_the_same_as_in_a_run_over_all(world, finished, tmp_path, capsys):
    args = arguments(world, tmp_path / "out", languages="bb,aa")
    before = listed(capsys, args)
    assert [(number, state) for number, state, _ in before] == [(str(i), "missing") for i in range(1, 5)]
    assert not (tmp_path / "out").exists()
    assert main([*args, "--cell", "2"]) == 0
    after = listed(capsys, arguments(world, tmp_path / "out"))
    assert [name for *_, name in after] == [name for *_, name in before]
    assert [state for _, state, _ in after] == ["missing", "done", "missing", "missing"]
    assert len(read_tree(tmp_path / "out")) == 4
    assert values(tmp_path / "out").items() <= values(finished).items()


def test_a_share_is_every_nth_cell_and_may_be_empty(world, finished, tmp_path, capsys):
    args = arguments(world, tmp_path / "out")
    assert main([*args, "--share", "1/3"]) == 0
    assert [state for _, state, _ in listed(capsys, args)] == ["done", "missing", "missing", "done"]
    assert values(tmp_path / "out").items() <= values(finished).items()
    assert main([*args, "--share", "7/9"]) == 0
    assert [state for _, state, _ in listed(capsys, args)] == ["done", "missing", "missing", "done"]


def test_a_failed_cell_is_recorded_tried_again_and_stops_no_other(world, tmp_path, capsys):
    data, output = tmp_path / "data", tmp_path / "out"
    shutil.copytree(world / "data", data)
    args = arguments(world, output, tickets="wikiann/aa", languages="cc,aa")
    setting = ["--", f"--data.init_args.dataset={data}"]
    assert main([*args, *setting]) == 1
    reason = json.loads((cell(output, "wikiann-cc-*") / "failed.json").read_text())["reason"]
    assert "ner_tags" in reason
    assert "1 of 2" in capsys.readouterr().err
    assert {r.target for r in read_tree(output)} == {"aa"}
    assert [state for _, state, _ in listed(capsys, args, setting)] == ["done", "failed"]
    write_rows(data / "cc" / "train.jsonl", 1, 16)
    write_rows(data / "cc" / "validation.jsonl", 2, 8)
    assert main([*args, *setting]) == 0
    assert not list(output.rglob("failed.json"))
    assert {r.target for r in read_tree(output)} == {"aa", "cc"}


@pytest.mark.slow
def test_killed_and_run_again_it_leaves_the_records_of_an_undisturbed_run(world, finished, tmp_path, cache):
    args = [*arguments(world, tmp_path / "out"), "--test"]
    environment = {**os.environ, "HF_DATASETS_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "lnsub", *args], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while not any(path.stat().st_size for path in (tmp_path / "out").rglob("results.jsonl")):
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    (first,) = (tmp_path / "out").rglob("results.jsonl")
    # As if the crash had come while the records were written.
    first.write_bytes(first.read_bytes()[:-100])
    with pytest.warns(UserWarning, match=r"results\.jsonl"):
        assert main(args) == 0
    with pytest.warns(UserWarning, match=r"results\.jsonl"):
        found = values(tmp_path / "out")
    assert found == values(finished)


def test_baselines_have_the_densities_of_the_ticket(world, finished):
    args = [*arguments(world, finished, tickets="wikiann/aa", languages="bb"), "--keep-checkpoints"]
    assert main([*args, "--baselines", "random,shuffled,reinit,oneshot,dense"]) == 0
    ticket = ticket_of(world, "wikiann", "aa", 0.5)
    masks = {
        path.name.split("-")[0]: Ticket.load(path)
        for path in (finished / "masks").iterdir()
        if path.suffix == ".safetensors"
    }
    total = sum(w for w in map(np.prod, ticket.shapes.values()))
    assert masks["random"].kept == total - round(0.5 * total)
    assert masks["shuffled"].kept_by_name == ticket.kept_by_name
    assert masks["oneshot"].kept == total - round(0.5 * total)
    assert len({m.checksum for m in (*masks.values(), ticket)}) == 4

    dense = trained(cell(finished, f"wikiann-aa-seed{SEED}-dense"))
    magnitudes = np.concatenate([dense[f"bert.{name}"].abs().numpy().ravel() for name in ticket.masks])
    bits = np.concatenate(
        [
            np.unpackbits(m, count=int(np.prod(ticket.shapes[n])), bitorder="little")
            for n, m in masks["oneshot"].masks.items()
        ]
    ).astype(bool)
    assert magnitudes[bits].min() >= magnitudes[~bits].max()

    found = {
        (r.score, r.init, r.source, r.sparsity, r.ticket): r.value
        for r in read_tree(finished / "cells")
        if r.metric == "f1"
        and r.target == "bb"
        and r.split == "validation"
        and r.kind == "transfer"
        and r.sparsity < 0.8
    }
    assert set(found) == {
        ("magnitude", "pretrained", "aa", 0.5, ticket.checksum),
        ("magnitude", "random", "aa", 0.5, ticket.checksum),
        ("shuffled", "pretrained", "aa", 0.5, masks["shuffled"].checksum),
        ("oneshot", "pretrained", "aa", 0.5, masks["oneshot"].checksum),
        ("random", "pretrained", None, 0.5, masks["random"].checksum),
        (None, "pretrained", None, 0.0, None),
    }


def unpacked(ticket: Ticket) -> np.ndarray:
    """All bits of a mask, in name order."""
    return np.concatenate(
        [
            np.unpackbits(ticket.masks[name], count=int(np.prod(ticket.shapes[name])), bitorder="little")
            for name in sorted(ticket.masks)
        ]
    ).astype(bool)


def test_inherited_masks_and_masks_random_from_denser_tickets(world, tmp_path, capsys):
    """A run's tickets at 10, 20 and 50 %: what is made for the last, and what is recorded of it."""
    for sparsity in (0.1, 0.2):
        make_ticket(world, WikiANNTask(""), "wikiann", "aa", sparsity)
    try:
        args = arguments(world, tmp_path, tickets="wikiann/aa")
        args += ["--sparsities", "0.5", "--baselines", "random_from,inherited"]
        assert main([*args, "--", "--trainer.max_epochs=1"]) == 0
        shown = capsys.readouterr().out
        starts = {sparsity: unpacked(ticket_of(world, "wikiann", "aa", sparsity)) for sparsity in (0.1, 0.2)}
    finally:
        for sparsity in (0.1, 0.2):
            ticket_of(world, "wikiann", "aa", sparsity).path.unlink()
    assert "aa random from 10 %" in shown
    found = [Ticket.load(path) for path in (tmp_path / "masks").glob("*.safetensors")]
    made = {ticket.provenance.score: ticket for ticket in found}
    assert len(found) == len(made) == 3  # for two targets
    total = len(starts[0.1])
    for sparsity, start in starts.items():
        ticket = made[f"random_from:{sparsity}"]
        bits = unpacked(ticket)
        assert (~bits).sum() == round(0.5 * total)
        assert not (bits & ~start).any()
        # At random among those that the start keeps: half of the weights are, give or take five standard deviations.
        assert abs(bits[: total // 2].mean() - 0.5) < 5 * 0.5 / (total / 2) ** 0.5
        provenance = ticket.provenance
        assert (provenance.language, provenance.seed, provenance.sparsity) == ("aa", SEED, 0.5)
        assert f"-s{sparsity:.2f}-" in provenance.schedule
    theta_0 = Subnet(WikiANNTask("").build(str(world / "model"))[0]).weights
    magnitudes = np.concatenate([theta_0[name].detach().abs().numpy().ravel() for name in sorted(theta_0)])
    inherited = made["magnitude_init"]
    assert magnitudes[unpacked(inherited)].min() >= magnitudes[~unpacked(inherited)].max()
    assert (inherited.provenance.task, inherited.sparsity) == ("inherited", pytest.approx(0.5, abs=1e-3))

    records = [r for r in read_tree(tmp_path / "cells") if r.metric == "f1"]
    own = ticket_of(world, "wikiann", "aa", 0.5).checksum
    assert {(r.score, r.source, r.source_task, r.source_seed, r.sparsity, r.target, r.ticket) for r in records} == {
        row
        for target in ("aa", "bb")
        for row in (
            ("magnitude", "aa", "wikiann", 3, 0.5, target, own),
            ("random_from:0.1", "aa", "wikiann", 3, 0.5, target, made["random_from:0.1"].checksum),
            ("random_from:0.2", "aa", "wikiann", 3, 0.5, target, made["random_from:0.2"].checksum),
            ("magnitude_init", None, "inherited", None, 0.5, target, inherited.checksum),
        )
    }
    assert len(records) == 8


def test_masks_random_from_a_ticket_are_nested_and_those_of_their_seed(run_cells):
    half, more, other_seed = (unpacked(random_ticket(cell)) for cell in run_cells)
    assert not (more & ~half).any()
    assert (~more).sum() == round(0.8 * len(more))
    assert (half != other_seed).any()
    assert (half == unpacked(random_ticket(run_cells[0]))).all()


@pytest.fixture
def run_cells(tmp_path: Path) -> list[Cell]:
    """Cells that start from one ticket: at 50 %, at 80 %, and at 50 % with another seed."""
    for number, sparsity in enumerate((0.1, 0.5, 0.8)):
        exact_ticket(sparsity, number).save(tmp_path / ticket_filename(sparsity))
    found = find_tickets([str(tmp_path / "*")])
    cells = plan(found, "xnli", ["fr"], [0, 1], ["random_from:0.1"])
    by_place = {(cell.sparsity, cell.seed): cell for cell in cells if cell.start}
    return [by_place[0.5, 0], by_place[0.8, 0], by_place[0.5, 1]]


def exact_ticket(sparsity: float, seed: int) -> Ticket:
    """A ticket that prunes exactly this share of the weights of one matrix."""
    bits = np.random.default_rng(seed).permutation(np.arange(400) >= round(sparsity * 400)).reshape(20, 20)
    return ticket_factory.ticket({"encoder.layer.0.output.dense.weight": bits}, sparsity=sparsity)


def test_zero_shot_trains_on_the_source_and_only_measures_the_targets(world, finished, capsys):
    args = arguments(world, finished, tickets="wikiann/aa", languages="aa,bb,cc")
    # cc's data cannot be used; that is no reason to lose the others.
    assert main([*args, "--zero-shot", "--keep-checkpoints"]) == 1
    assert "ner_tags" in capsys.readouterr().err
    folder = cell(finished, "wikiann-zero_shot-aa-*")
    records = {r.target: r for r in read(folder / "results.jsonl") if r.metric == "f1"}
    assert {(r.kind, r.source, r.target) for r in records.values()} == {
        ("zero_shot", "aa", "aa"),
        ("zero_shot", "aa", "bb"),
    }

    weights, at_home = trained(folder), trained(cell(finished, f"wikiann-aa-seed{SEED}-from-wikiann-aa-*"))
    assert weights.keys() == at_home.keys()
    assert all(torch.equal(weights[name], at_home[name]) for name in weights)
    for target, record in records.items():
        data = WikiANN(language=target, tokenizer=str(world / "model"), dataset=str(world / "data"), max_length=16)
        model, _ = WikiANNTask("").build(str(world / "model"))
        model.load_state_dict({n: w for n, w in weights.items() if not n.endswith("weight_mask")})
        metrics = data.task.metrics()
        for batch in data.val_dataloader():
            with torch.no_grad():
                metrics.update(data.task.forward(model, batch), batch["labels"])
        assert record.value == pytest.approx(float(metrics.compute()["f1"]), abs=1e-9)


def test_a_cell_that_another_process_runs_is_left_to_it(world, tmp_path, capsys):
    args = arguments(world, tmp_path, tickets="wikiann/aa", languages="aa")
    (name,) = (name for *_, name in listed(capsys, args))
    lock = tmp_path / "cells" / name / ".lock"
    lock.parent.mkdir(parents=True)
    hold = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", hold, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        holder.stdout.readline()
        assert main([*args, "--cell", "1"]) == 1
        assert "another process" in capsys.readouterr().err
        holder.communicate(b"\n")
    assert read_tree(tmp_path) == []


def test_commands_for_different_tickets_share_no_baseline(world, tmp_path, capsys):
    """Each ticket's command with its own language's baselines lists what one command for all lists."""
    listed = []
    for tickets, extra in (
        ("*/*", []),
        ("wikiann/aa", ["--baselines-on", "aa"]),
        ("xnli/bb", ["--baselines-on", "bb"]),
    ):
        args = [*arguments(world, tmp_path / "out", tickets=tickets), "--baselines", "dense,random", "--list", *extra]
        assert main(args) == 0
        listed.append([line.split()[-1] for line in capsys.readouterr().out.splitlines()])
    whole, one, other = listed
    assert not set(one) & set(other)
    # A random mask is of a sparsity that only one of the tickets has: without the other's language, half of them.
    assert set(whole) - {*one, *other} == {name for name in whole if "random" in name} - {*one, *other}
    assert {name for name in whole if "random" not in name} <= {*one, *other}


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        (["--baselines-on", "aa,zz"], "--baselines-on has zz"),
        (["--tickets", "nowhere/*.safetensors"], r"nowhere/\*\.safetensors"),
        (["--languages", "aa,zz"], "'zz'"),
        (["--sparsities", "0.7"], r"0\.7: .*0\.5, 0\.8"),
        (["--seeds", "a"], "--seeds .*'a'"),
        (["--baselines", "rnadom"], r"did you mean random\?"),
        (["--baselines", "random:0.1"], "only random_from takes a sparsity"),
        (["--baselines", "random_from"], "lower sparsity of the same run"),
        (["--cell", "9"], "cell 9: .*1 to 4"),
        (["--share", "3/2"], "--share .*3/2"),
        (["--share", "2"], "--share .*'2'"),
        (["--", "--model.learning_rat=1"], r"did you mean learning_rate\?"),
        (["--", "--model.ticket=x"], r"--model\.ticket"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2_before_anything_runs(world, tmp_path, capsys, changes, facts):
    assert main([*arguments(world, tmp_path / "out"), *changes]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("lnsub: error: "))
    assert re.search(facts, line)
    assert not (tmp_path / "out").exists()


def test_tickets_of_another_base_model_are_refused_before_anything_runs(world, tmp_path, capsys):
    save_checkpoint(tmp_path / "model", WORDS, seed=1)
    assert main([*arguments(world, tmp_path / "out"), "--", f"--model.base_model={tmp_path / 'model'}"]) == 2
    assert str(tmp_path / "model") in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_cells_of_other_settings_do_not_mix(world, finished, capsys):
    # Though all these cells are done: their values are not those that these settings would give.
    assert main([*arguments(world, finished), "--", "--model.learning_rate=0.01"]) == 2
    assert re.search(r"model\.learning_rate .*0\.02.* 0\.01", capsys.readouterr().err)
