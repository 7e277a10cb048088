"""Tickets from masks of other programs, which are made here by torch's own pruning and by hand."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.utils import prune
from transformers import AutoModel, AutoModelForSequenceClassification

from lnsub.cli.main import main
from lnsub.models.inherited import Theta0
from lnsub.pruning.masks import Mask
from lnsub.tickets.ticket import Ticket
from tests.support.command import said
from tests.support.ticket_factory import random_ticket


@pytest.fixture(scope="module")
def theta_0(bert: str) -> Theta0:
    return Theta0.load(bert)


@pytest.fixture
def masks(theta_0: Theta0) -> dict[str, Tensor]:
    """Random masks of all prunable weights, by their names in the bare base model."""
    rng = np.random.default_rng(5)
    return {name: torch.from_numpy(rng.random(theta_0[name].shape) < 0.7) for name in theta_0}


def command(bert: str, source: Path, output: Path, *more: str) -> list[str]:
    facts = ["--task=xnli", "--language=fr", f"--base-model={bert}", f"--output={output}"]
    return ["ticket", "import", str(source), *facts, *more]


def imported(bert: str, source: Path, *more: str) -> Ticket:
    output = source.parent / "ticket.safetensors"
    assert main(command(bert, source, output, "--force", *more)) == 0
    return Ticket.load(output)


def bits(ticket: Ticket) -> dict[str, Tensor]:
    return dict(Mask.from_packed(ticket.masks, ticket.shapes))


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


NAMINGS = {
    "as they are": lambda name: name,
    "a task's prefix": lambda name: f"bert.{name}",
    "a wrapped model": lambda name: f"module.bert.{name}",
    "weight_mask": lambda name: f"bert.{name}_mask",
    ".mask after the weight": lambda name: f"{name}.mask",
    ".mask for the weight": lambda name: name.removesuffix("weight") + "mask",
}


@pytest.mark.parametrize(
    ("naming", "dtype"),
    [
        *((naming, torch.uint8) for naming in NAMINGS),
        *(("weight_mask", dtype) for dtype in (torch.bool, torch.int64, torch.float32, torch.bfloat16)),
        *(("a task's prefix", dtype) for dtype in (torch.bool, torch.float32)),
    ],
)
def test_masks_in_the_usual_names_and_types(
    naming: str, dtype: torch.dtype, bert: str, masks: dict[str, Tensor], tmp_path: Path
) -> None:
    save_file({NAMINGS[naming](name): mask.to(dtype) for name, mask in masks.items()}, tmp_path / "m.safetensors")
    assert same(bits(imported(bert, tmp_path / "m.safetensors")), masks)


def test_the_provenance_says_where_it_comes_from(
    bert: str, theta_0: Theta0, masks: dict[str, Tensor], tmp_path: Path
) -> None:
    save_file(masks, tmp_path / "m.safetensors")
    p = imported(bert, tmp_path / "m.safetensors", "--seed=7", "--scope=layer", "--metric=accuracy=0.71").provenance
    assert (p.base_model, p.base_fingerprint) == (bert, theta_0.fingerprint)
    assert (p.task, p.language, p.seed, p.score, p.scope, p.metric) == (
        "xnli", "fr", 7, "imported", "layer", "accuracy=0.71",
    )  # fmt: skip
    total = sum(mask.numel() for mask in masks.values())
    pruned = sum(int((~mask).sum()) for mask in masks.values())
    assert p.sparsity * total == pytest.approx(pruned, abs=len(masks))  # rounded once in each matrix at most


def test_what_torch_pruned_is_read_from_its_masks_and_from_its_zeros(
    bert: str, theta_0: Theta0, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(bert, num_labels=3)
    linears = {n: m for n, m in model.bert.named_modules() if f"{n}.weight" in theta_0 or n == "pooler.dense"}
    parameters = [(module, "weight") for module in linears.values()]
    prune.global_unstructured(parameters, prune.L1Unstructured, amount=0.4)
    expected = {f"{name}.weight": module.weight_mask.bool() for name, module in linears.items()}
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "masked.safetensors")
    for parameter in parameters:
        prune.remove(*parameter)
    with torch.no_grad():  # fine-tuned: other values, the same zeros
        for module in linears.values():
            module.weight.mul_(1.25)
    model.save_pretrained(tmp_path / "pruned")

    masked = imported(bert, tmp_path / "masked.safetensors")
    assert same(bits(masked), expected)
    assert masked.provenance.sparsity == 0.4  # what was asked for, although no whole number of weights is that share
    assert imported(bert, tmp_path / "pruned").checksum == masked.checksum
    assert imported(bert, tmp_path / "pruned" / "model.safetensors").checksum == masked.checksum


def test_what_a_ticket_cannot_hold_is_left_out_and_told(
    bert: str, masks: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without = {name: mask for name, mask in masks.items() if not name.startswith("pooler.")}
    others = {"embeddings.word_embeddings.weight": torch.ones(5, 2, dtype=torch.bool)}
    save_file(without | others, tmp_path / "m.safetensors")
    assert same(bits(imported(bert, tmp_path / "m.safetensors")), without)
    out = capsys.readouterr().out
    assert "Left out" in out
    assert "embeddings.word_embeddings.weight" in out
    assert "no mask of pooler.dense.weight" in out


def test_zeros_that_the_base_model_has_too_are_told(
    theta_0: Theta0, bert: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = AutoModel.from_pretrained(bert)
    name = "encoder.layer.0.attention.self.query"
    with torch.no_grad():
        model.get_submodule(name).weight[0, :5] = 0
    base = tmp_path / "base"
    model.save_pretrained(base)
    line = said(capsys, command(str(base), base, tmp_path / "t"))
    assert "no zero" in line
    with torch.no_grad():
        model.get_submodule(name).weight[1, :3] = 0
    model.save_pretrained(tmp_path / "pruned")
    ticket = imported(str(base), tmp_path / "pruned")
    assert ticket.total - ticket.kept == 8
    assert "5 of its 8 zeros are 0 in the base model too" in capsys.readouterr().out


def test_what_is_no_mask_is_refused_in_one_sentence(
    bert: str, masks: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = sorted(masks)[:2]
    numbers = {name: mask.float() for name, mask in masks.items()}
    half, nan = numbers[first].clone(), numbers[first].clone()
    half[0, 0], nan[0, 0] = 0.5, float("nan")
    sources: dict[str, tuple[dict[str, Tensor], tuple[str, ...]]] = {
        "half": (numbers | {first: half}, (first, "values other than 0 and 1")),
        "nan": (numbers | {first: nan}, (first, "NaN")),
        "two": ({name: mask.to(torch.uint8) * 2 for name, mask in masks.items()}, ("values other than 0 and 1",)),
        "shape": (masks | {first: masks[first].T[:3].contiguous()}, (first, "shape")),
        "missing": (
            {name: mask for name, mask in masks.items() if name not in (first, second)},
            ("2 of the", first, second),
        ),
        "twice": (masks | {f"bert.{first}": masks[first].clone()}, ("two tensors for one weight", first)),
        "nothing": ({name: torch.ones_like(mask) for name, mask in masks.items()}, ("prunes nothing",)),
        "everything": ({name: torch.zeros_like(mask) for name, mask in masks.items()}, ("prunes everything",)),
        "others": ({"a.b": torch.ones(3)}, ("nothing for",)),
        "mixed": (
            {name: torch.randn(mask.shape) for name, mask in masks.items()} | {first: masks[first]},
            ("mixes masks",),
        ),
    }
    for name, (tensors, facts) in sources.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
        line = said(capsys, command(bert, tmp_path / f"{name}.safetensors", tmp_path / "t"))
        assert all(fact in line for fact in facts), line
    random_ticket(0.5, 1).save(tmp_path / "ticket.safetensors")
    assert "a ticket already" in said(capsys, command(bert, tmp_path / "ticket.safetensors", tmp_path / "t"))
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "half.safetensors").read_bytes()[:-9])
    assert "cannot be read" in said(capsys, command(bert, tmp_path / "cut.safetensors", tmp_path / "t"))
    assert "is not there" in said(capsys, command(bert, tmp_path / "nowhere", tmp_path / "t"))
    assert not (tmp_path / "t").exists()


class Bomb:
    """Makes a file when its pickle is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_no_pickle_is_read_and_the_way_out_is_told(
    bert: str, masks: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("masks.pt", "masks.bin", "no-suffix", "folder/0.pt"):
        torch.save({"bomb": Bomb(tmp_path / "exploded")}, tmp_path / name)
    for name in ("masks.pt", "masks.bin", "no-suffix", "folder"):
        line = said(capsys, command(bert, tmp_path / name, tmp_path / "t"))
        assert all(fact in line for fact in ("may be a pickle", "convert it", "save_file"))
    assert not (tmp_path / "exploded").exists()
    # The program in the message is one that works.
    torch.save(masks, tmp_path / "masks.pt")
    code = said(capsys, command(bert, tmp_path / "masks.pt", tmp_path / "t")).split("-c '")[1].split("'")[0]
    subprocess.run([sys.executable, "-c", code, "masks.pt", "masks.safetensors"], cwd=tmp_path, check=True)
    assert same(bits(imported(bert, tmp_path / "masks.safetensors")), masks)


@pytest.mark.parametrize(
    ("option", "fact"),
    [
        ("--task=../x", "task"),
        ("--language=", "empty"),
        ("--language=en+", "language"),
        ("--seed=-2", "--seed"),
        ("--scope=galaxy", "--scope"),
        ("--metric=high", "--metric"),
        ("--metric==1", "--metric"),
        ("--metric=f1=nan", "--metric"),
        ("--base-model=", "empty"),
    ],
)
def test_bad_options_are_refused_before_the_model_is_loaded(
    option: str, fact: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fact in said(capsys, [*command("nowhere/x", tmp_path / "m", tmp_path / "t"), option])
