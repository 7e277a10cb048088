"""The table of docs/models.md: each type of model with each task, on a tiny checkpoint."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own convention)
from transformers import PreTrainedModel

from lnsub.common.errors import UserError
from lnsub.data.batching import IGNORED, BatchRows
from lnsub.models.prunable import coverage
from lnsub.models.subnet import Subnet
from lnsub.pruning.masks import Mask
from lnsub.tasks import data_modules, tasks
from lnsub.tasks.task import LanguageDataModule
from lnsub.tickets.parameters import kind_of, layer_of
from lnsub.training.layer_sums import LayerSums
from tests.support.tiny_checkpoints import SETTINGS, WORDS, save_tiny

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
REASONS = {
    "both directions": "reads in both directions",
    "left to right": "reads from left to right",
    "encoder-decoder": "is an encoder-decoder",
    "no head": "has no head for this task",
    "other blocks": "lacks the weights decoder",
    "pooler only": "nothing but the pooler can be pruned",
}
PARTLY = {"funnel"}
"""Types with matrices in their blocks that are not pruned."""

POOLS_PADDING = {"canine", "funnel"}
"""Types whose states depend on the padded length."""

UNREACHED = {"adapter_modules.fr_XX", "w2e_query", "e2w_query", "e2e_query", "final_char_encoder", "pooler"}
"""Parts of names of weights that an English batch of some task does not depend on."""


@cache
def table() -> dict[str, dict[str, str]]:
    """What the page says of each type and each task that there is, by names."""
    lines = [line.strip("| ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if "|" in line]
    header = next(line for line in lines if line[0] == "type")
    by_title = {task.title: name for name, task in tasks().items()}
    rows = {line[0].strip("`"): dict(zip(header, line, strict=True)) for line in lines if len(line) == len(header)}
    return {
        kind: {by_title[title]: cell for title, cell in row.items() if title in by_title}
        for kind, row in rows.items()
        if kind not in ("type", "---")
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with data of all tasks, and a cache of its own."""
    folder = tmp_path_factory.mktemp("architectures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "cache")
        for split in ("train", "validation"):
            path = folder / "data" / "en" / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(_row(i)) + "\n" for i in range(9)), encoding="utf-8")
        yield folder


def _row(i: int) -> dict[str, object]:
    words = [WORDS[(i + k) % 9] for k in range(2 + i % 4)]
    tags = ["O"] * (len(words) - 1) + ["B-LOC"]
    text = {"premise": " ".join(words), "hypothesis": "the dog sat", "text": " ".join(WORDS[: 5 + i])}
    return {**text, "label": i % 3, "tokens": words, "ner_tags": tags}


def _data(folder: Path, world: Path, task: str) -> LanguageDataModule:
    made = next(kind for kind in data_modules().values() if kind.task_class.name == task)
    return made(language="en", tokenizer=str(folder), dataset=str(world / "data"), max_length=24, batch_size=4)


def test_the_table_has_every_type_that_is_tested_and_every_task_but_the_second_tagger():
    assert table().keys() == SETTINGS.keys()
    assert all(row.keys() == tasks().keys() - {"udpos"} for row in table().values())


@pytest.mark.parametrize("model_type", SETTINGS)
def test_a_type_does_what_the_table_says(model_type, world):
    folder = save_tiny(world / model_type, model_type)
    prints = {}
    for task, cell in table()[model_type].items():
        data = _data(folder, world, task)
        if cell != "works":
            with pytest.raises(UserError, match=REASONS[cell]):
                data.task.build(str(folder))
            continue
        torch.manual_seed(0)
        model, _ = data.task.build(str(folder))
        subnet = Subnet(model.eval())
        _check_names(model_type, model, subnet)
        prints[task] = (subnet.fingerprint(), {name for name in subnet.shapes if not name.startswith("pooler.")})
        batch = data.train_dataloader().dataset[BatchRows(0, np.arange(3))]
        if model_type not in POOLS_PADDING:
            _check_padding(data, model, batch)
        _check_gradients(data, model, subnet, data.train_dataloader().dataset[BatchRows(0, np.arange(1))])
        _check_step(data, model, subnet, batch)
    assert all(found == next(iter(prints.values())) for found in prints.values())


def _check_names(model_type: str, model: PreTrainedModel, subnet: Subnet) -> None:
    """Every prunable weight has a layer and a kind, and all of the blocks are prunable."""
    assert "other" not in {kind_of(name) for name in subnet.shapes} | {layer_of(name) for name in subnet.shapes}
    covered = coverage(model)
    assert bool(covered.left_out) == (model_type in PARTLY)
    assert not any("embed" in name or "vision" in name or "lm_head" in name for name in subnet.shapes)
    tied = (
        {id(parameter) for parameter in model.get_input_embeddings().parameters()} if model_type != "canine" else set()
    )
    assert tied.isdisjoint(id(weight) for weight in subnet.weights.values())


def _check_padding(data: LanguageDataModule, model: PreTrainedModel, batch: dict[str, Tensor]) -> None:
    """More padding changes no logit of a token."""
    width = batch["input_ids"].shape[1]
    if "positions" in batch:
        return  # masked tokens are in one list
    targets = {"labels"} if model.config.is_encoder_decoder else set()  # of lengths of their own
    fill = {"input_ids": model.config.get_text_config().pad_token_id or 0, "labels": IGNORED}
    longer = {
        name: F.pad(values, (0, 4), value=fill.get(name, 0))
        if values.shape[1:2] == (width,) and name not in targets
        else values
        for name, values in batch.items()
    }
    with torch.no_grad():
        logits, more = data.task.forward(model, batch), data.task.forward(model, longer)
    if batch["labels"].dim() == 2 and not targets:
        tokens = batch["attention_mask"].bool()
        logits, more = logits[tokens], more[:, :width][tokens]
    torch.testing.assert_close(more, logits, rtol=1e-4, atol=1e-4)


def _check_gradients(
    data: LanguageDataModule, model: PreTrainedModel, subnet: Subnet, batch: dict[str, Tensor]
) -> None:
    """Of a single example, the summed squares are the square of the gradient; and every weight is given something."""
    sums = LayerSums(model, subnet.weights, frozenset({"squared_gradients", "activations"}))
    tokens = batch["attention_mask"].bool()
    target = [batch["labels"] != IGNORED] if model.config.is_encoder_decoder else []
    with sums.recording():
        sums.start([tokens, *target])
        data.task.loss(data.task.forward(model, batch), batch["labels"]).backward()
        sums.finish()
    for name, weight in subnet.weights.items():
        if any(part in name for part in UNREACHED):
            continue
        assert weight.grad is not None, name
        largest = weight.grad.square().max().item()
        torch.testing.assert_close(sums.squares[name], weight.grad.square(), rtol=1e-3, atol=1e-4 * largest + 1e-12)
        assert sums.tokens[name].sum() > 0, name
        assert torch.isfinite(sums.inputs[name]).all(), name
    model.zero_grad()


def _check_step(data: LanguageDataModule, model: PreTrainedModel, subnet: Subnet, batch: dict[str, Tensor]) -> None:
    """A training step changes kept weights, and no pruned one."""
    subnet.set_mask(Mask({name: torch.rand(shape) < 0.5 for name, shape in subnet.shapes.items()}))
    before = {name: weight.detach().clone() for name, weight in subnet.weights.items()}
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-2)
    data.task.loss(data.task.forward(model, batch), batch["labels"]).backward()
    subnet.mask_gradients()
    optimizer.step()
    assert all(not weight[~subnet.mask[name]].any() for name, weight in subnet.weights.items())
    assert any(not torch.equal(weight, before[name]) for name, weight in subnet.weights.items())
