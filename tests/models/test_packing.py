"""Packed models: the padded models' logits and gradients, without padding, each sequence by itself."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    CamembertConfig,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    PretrainedConfig,
    RobertaConfig,
    XLMRobertaConfig,
    XLMRobertaXLConfig,
)

from lnsub.cli.main import main
from lnsub.common.errors import UserError
from lnsub.data.batching import IGNORED
from lnsub.models import packing
from lnsub.models.compiling import compile_for_training
from lnsub.models.packing import BLOCKS, Packing, packed_attention
from lnsub.runs.records import read
from lnsub.tasks.mlm import MLMTask
from lnsub.tasks.task import Task
from lnsub.tasks.wikiann import WikiANN, WikiANNTask
from lnsub.tasks.xnli import XNLITask
from tests.support import ddp_cases, ddp_runs
from tests.support.command import arguments, said
from tests.support.data_makers import WORDS, write_rows
from tests.support.processes import on_ranks

VOCABULARY = 40
# Weights drawn wide, so that attention is sharp and a wrong position or a neighbour's token shows.
WIDE = {"vocab_size": VOCABULARY, "max_position_embeddings": 32, "initializer_range": 0.5}
BERT_LIKE = {
    **WIDE,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
CONFIGS: dict[str, PretrainedConfig] = {
    "bert": BertConfig(**BERT_LIKE),
    "camembert": CamembertConfig(**BERT_LIKE),
    "electra": ElectraConfig(**BERT_LIKE, embedding_size=8),
    "roberta": RobertaConfig(**BERT_LIKE),
    "xlm-roberta": XLMRobertaConfig(**BERT_LIKE),
    "xlm-roberta-xl": XLMRobertaXLConfig(**BERT_LIKE),
    "distilbert": DistilBertConfig(
        **WIDE, dim=16, n_layers=2, n_heads=2, hidden_dim=32, dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0
    ),
}
TASKS: dict[str, Task] = {"xnli": XNLITask(""), "wikiann": WikiANNTask(""), "mlm": MLMTask("")}
LENGTHS = {"mixed": [9, 4, 4, 2, 1], "unsorted": [1, 7, 3, 7], "equal": [5, 5, 5], "one row": [6], "one token": [1]}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A checkpoint of each type of model that can be packed."""
    where = {}
    for kind, config in CONFIGS.items():
        torch.manual_seed(0)
        where[kind] = str(tmp_path_factory.mktemp(kind))
        AutoModelForMaskedLM.from_config(config).save_pretrained(where[kind])
    return where


def built(task: Task, folder: str, attention: str) -> nn.Module:
    """A task's model; the weights that the checkpoint lacks are the same for each attention."""
    torch.manual_seed(1)
    return task.build(folder, attention=attention)[0]


def made(task: str, kind: str, lengths: list[int], seed: int = 0) -> dict[str, Tensor]:
    """A padded batch as the task's data module makes it."""
    generator = torch.Generator().manual_seed(seed)
    rows, longest = len(lengths), max(lengths)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]

    def draw(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator)

    batch = {
        "input_ids": draw(3, VOCABULARY, rows, longest).where(mask, CONFIGS[kind].pad_token_id),
        "attention_mask": mask.long(),
        "slots": mask.flatten().nonzero().squeeze(1),
        "labels": draw(0, 3, rows),
        "index": torch.arange(rows),
    }
    if kind in {"bert", "electra"}:
        batch["token_type_ids"] = draw(0, 2, rows, longest) * mask
    if task == "wikiann":
        batch["labels"] = draw(0, 7, rows, longest).where(mask, IGNORED)
    if task == "mlm":
        batch["positions"] = batch["slots"][:: 2 if rows > 1 else 1]
        batch["labels"] = draw(3, VOCABULARY, len(batch["positions"]))
    return batch


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", BLOCKS)
def test_logits_and_gradients_are_those_of_the_padded_model(kind, task, folders):
    padded, packed = (built(TASKS[task], folders[kind], attention) for attention in ("sdpa", "packed"))
    for name, lengths in LENGTHS.items():
        batch = made(task, kind, lengths)
        expected, expected_gradients = logits_and_gradients(padded, TASKS[task], batch)
        logits, gradients = logits_and_gradients(packed, TASKS[task], batch)
        counted = batch["labels"] != IGNORED
        torch.testing.assert_close(logits[counted], expected[counted], rtol=1e-4, atol=1e-5, msg=name)
        assert gradients.keys() == expected_gradients.keys()
        for weight, gradient in gradients.items():
            reference = expected_gradients[weight]
            torch.testing.assert_close(gradient, reference, rtol=1e-3, atol=1e-5, msg=f"{name}, {weight}")


def logits_and_gradients(model: nn.Module, task: Task, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """One forward and backward pass of the task's loss."""
    model.zero_grad()
    logits = task.forward(model, batch)
    assert logits.shape[:-1] == batch["labels"].shape
    Task.loss(logits, batch["labels"]).backward()
    return logits.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta"])
def test_a_padding_token_inside_a_text_gets_the_position_that_the_model_gives_it(kind, folders):
    batch = made("wikiann", kind, [6, 4])
    batch["input_ids"][0, 2] = CONFIGS[kind].pad_token_id  # RoBERTa counts positions by tokens that are not padding
    counted = batch["labels"] != IGNORED
    padded, packed = (
        TASKS["wikiann"].forward(built(TASKS["wikiann"], folders[kind], attention), batch)[counted]
        for attention in ("sdpa", "packed")
    )
    torch.testing.assert_close(packed, padded, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "distilbert"])
def test_a_sequence_knows_nothing_of_its_neighbours(kind, folders):
    model = built(TASKS["wikiann"], folders[kind], "packed")
    batch = made("wikiann", kind, [6, 4, 4, 1])
    before = TASKS["wikiann"].forward(model, batch)
    batch["input_ids"][1, :4] = torch.tensor([9, 8, 7, 6])
    after = TASKS["wikiann"].forward(model, batch)
    assert not torch.equal(before[1, :4], after[1, :4])
    for row, length in ((0, 6), (2, 4), (3, 1)):
        assert torch.equal(before[row, :length], after[row, :length])


@pytest.mark.parametrize("kind", BLOCKS)
def test_every_linear_layer_and_embedding_of_the_encoder_sees_the_tokens_alone(kind, folders):
    model = built(TASKS["wikiann"], folders[kind], "packed").base_model
    batch = made("wikiann", kind, LENGTHS["mixed"])
    seen = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].shape[:2])

    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding | nn.LayerNorm) and "pooler" not in name:
            module.register_forward_pre_hook(look)
    model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])  # slots are found from the mask
    assert len(seen) > 12
    assert set(seen) == {torch.Size([1, sum(LENGTHS["mixed"])])}


def attention_by_formula(q: Tensor, k: Tensor, v: Tensor, lengths: list[int], scale: float) -> Tensor:
    """softmax(q k' scale) v of each sequence of [1, heads, tokens, width]: [1, tokens, heads, width]."""
    parts = (states[0].split(lengths, dim=1) for states in (q, k, v))
    mixed = [((a @ b.mT) * scale).softmax(-1) @ c for a, b, c in zip(*parts, strict=True)]
    return torch.cat(mixed, dim=1).transpose(0, 1)[None]


def packing_of(lengths: list[int]) -> Packing:
    return Packing.of(torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("way", [packing._by_runs, packing._padded])
def test_each_way_of_attention_is_the_formula(way, lengths):
    torch.manual_seed(0)
    states = torch.randn(3, 1, 2, sum(lengths), 8, dtype=torch.float64, requires_grad=True)
    expected = attention_by_formula(*states, lengths, 0.3)
    got = way(*states.transpose(2, 3), packing_of(lengths), 0.3, 0.0)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(expected)
    (from_formula,) = torch.autograd.grad((expected * weights).sum(), states)
    (from_way,) = torch.autograd.grad((got * weights).sum(), states)
    torch.testing.assert_close(from_way, from_formula, rtol=1e-10, atol=1e-10)


def test_dropout_of_attention_weights_leaves_the_mean_as_it_is():
    torch.manual_seed(0)
    lengths = [5, 3, 3]
    states = torch.randn(3, 1, 2, 11, 8)
    draws = torch.stack(
        [
            packed_attention(nn.Identity(), *states, None, packing=packing_of(lengths), dropout=0.2)[0]
            for _ in range(400)
        ]
    )
    expected = attention_by_formula(*states, lengths, 1 / math.sqrt(8))
    spread = draws.std(0)
    assert spread.max() > 0.1
    assert ((draws.mean(0) - expected).abs() < 5 * spread / math.sqrt(400) + 1e-5).all()


def on_meta(dropout: float) -> nn.Module:
    """A packed BERT in bfloat16 without any values."""
    config = BertConfig(**{**BERT_LIKE, "attention_probs_dropout_prob": dropout, "attn_implementation": packing.PACKED})
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config, dtype=torch.bfloat16).train()
    packing.pack(model)
    return model


def inputs_on_meta(lengths: list[int]) -> dict[str, Tensor]:
    """Its arguments, likewise."""
    batch = made("xnli", "bert", lengths)
    return {name: batch[name].to("meta") for name in ("input_ids", "attention_mask", "token_type_ids", "slots")}


@pytest.mark.parametrize("varlen", [False, True], ids=["padded", "varlen"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_on_a_device_nothing_waits_for_it(dropout, varlen, monkeypatch):
    # Tensors on "meta" have shapes but no values: whatever asks for one, as a wait for a device would, raises.
    if varlen:
        monkeypatch.setattr(packing, "_has_varlen", lambda query: True)
    model = on_meta(dropout)
    inputs = inputs_on_meta(LENGTHS["mixed"])
    logits = model(**inputs).logits
    assert logits.shape == (5, 2)
    logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    with pytest.raises(Exception, match="meta"):
        model(**{name: value for name, value in inputs.items() if name != "slots"})


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_on_a_device_one_compilation_serves_every_batch(dropout, monkeypatch):
    monkeypatch.setattr(packing, "_has_varlen", lambda query: True)
    compiled = 0

    def count(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        nonlocal compiled
        compiled += 1
        return graph.forward

    model = on_meta(dropout)
    compile_for_training(model, "default", backend=count)
    try:
        for lengths in ([9, 4, 4, 2, 1], [7, 6, 3], [8, 8, 2, 2]):
            assert model(**inputs_on_meta(lengths)).logits.shape == (len(lengths), 2)
    finally:
        torch.compiler.reset()
    assert compiled == 1


def test_bfloat16_autocast_agrees_with_the_padded_model(folders):
    batch = made("xnli", "bert", LENGTHS["mixed"])
    with torch.autocast("cpu", torch.bfloat16):
        padded, packed = (
            TASKS["xnli"].forward(built(TASKS["xnli"], folders["bert"], attention), batch).float()
            for attention in ("sdpa", "packed")
        )
    torch.testing.assert_close(packed, padded, rtol=0.03, atol=0.03)


def test_a_packed_fit_is_the_padded_fit(bert, data, tmp_path):
    folders = []
    for attention in ("sdpa", "packed"):
        settings = {"model.attention": attention, "trainer.precision": "32-true", "trainer.log_every_n_steps": 1}
        assert main(arguments(bert, data, tmp_path / attention, wandb="null", **settings)) == 0
        folders.append(tmp_path / attention / "wikiann" / "en" / "seed57")
    padded, packed = (losses(folder) for folder in folders)
    assert len(packed) == 9  # three rounds of three steps
    assert packed == pytest.approx(padded, rel=1e-4)
    values = [[record.value for record in read(folder / "results.jsonl")] for folder in folders]
    assert values[1] == pytest.approx(values[0], abs=0.05)
    assert main(["predict", f"--config={folders[1] / 'config.yaml'}"]) == 0
    assert len((folders[1] / "predictions.jsonl").read_text().splitlines()) == 8


def test_batches_say_where_their_tokens_are_and_may_be_random(bert, data, cache):
    module = WikiANN("en", bert, str(data), batch_size=8, group_window=1)
    batches = [*module.train_dataloader(), *module.val_dataloader()]
    assert len(batches) > 3
    for batch in batches:
        mask = batch["attention_mask"]
        assert batch["slots"].tolist() == [i for i, kept in enumerate(mask.flatten().tolist()) if kept]


@pytest.mark.slow
def test_two_processes_packed_find_what_one_finds_padded(bert, tmp_path):
    for split, count in (("train", 64), ("validation", 15)):
        texts = [" ".join(WORDS[: 1 + i % 9]) for i in range(count)]
        columns = {"premise": texts, "hypothesis": texts[::-1], "label": [i % 3 for i in range(count)]}
        write_rows(tmp_path / "xnli" / "en" / f"{split}.jsonl", columns)
    for name, processes, attention in (("padded", 1, "sdpa"), ("packed", 2, "packed")):
        args = ddp_runs.command(bert, tmp_path, name, processes, **{"model.attention": attention})
        assert on_ranks(processes, ddp_cases.statuses, [args], tmp_path / "cache") == [[0]] * processes
    one, two = (ddp_runs.values(tmp_path, name) for name in ("padded", "packed"))
    assert len(two) == 3
    assert two == pytest.approx(one, abs=2 / 15)


def losses(folder: Path) -> list[float]:
    """The training losses in a run's metrics.csv."""
    header, *rows = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    column = header.index("train_loss")
    return [float(row[column]) for row in rows if row[column]]


def test_models_that_cannot_be_packed_are_refused(bert, mt5, data, tmp_path, capsys):
    with pytest.raises(UserError, match=r"bert, .*mt5.*model\.attention=sdpa"):
        XNLITask(mt5).build(mt5, attention="packed")
    ModernBertConfig(vocab_size=40, hidden_size=16, num_attention_heads=2).save_pretrained(tmp_path / "modernbert")
    with pytest.raises(UserError, match="modernbert"):
        WikiANNTask("").build(str(tmp_path / "modernbert"), attention="packed")
    BertConfig(**BERT_LIKE, is_decoder=True).save_pretrained(tmp_path / "decoder")
    with pytest.raises(UserError, match=r"bert .*decoder"):
        WikiANNTask("").build(str(tmp_path / "decoder"), attention="packed")
    args = arguments(bert, data, tmp_path, **{"model.attention": "packed", "model.base_model": tmp_path / "modernbert"})
    assert "attention" in said(capsys, args)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("width", [64, 12], ids=["varlen", "padded"])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_attention_on_a_gpu_is_the_formula_and_waits_for_nothing(lengths, width):
    torch.manual_seed(0)
    states = torch.randn(3, 1, 2, sum(lengths), width)
    rounded = states.to(torch.bfloat16)
    expected = attention_by_formula(*rounded.float(), lengths, 1 / math.sqrt(width))
    on_gpu = rounded.cuda().requires_grad_()
    where = Packing(*(getattr(packing_of(lengths), part).cuda() for part in ("slots", "mask", "starts")))
    assert packing._has_varlen(on_gpu[0]) == (width == 64)
    torch.cuda.set_sync_debug_mode("error")
    try:
        got, _ = packed_attention(nn.Identity(), *on_gpu, None, packing=where)
        dropped, _ = packed_attention(nn.Identity(), *on_gpu, None, packing=where, dropout=0.5)
        (gradient,) = torch.autograd.grad((got.float() ** 2).sum() + (dropped.float() ** 2).sum(), on_gpu)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(got.float().cpu(), expected, rtol=0.02, atol=0.02)
    assert gradient.isfinite().all()
    assert dropped.isfinite().all()
    draws = torch.stack(
        [packed_attention(nn.Identity(), *on_gpu.detach(), None, packing=where, dropout=0.2)[0] for _ in range(400)]
    ).float()
    assert F.mse_loss(draws.mean(0).cpu(), expected) < 0.01


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_model_on_a_gpu_gives_the_logits_of_the_padded_one(precision, folders):
    batch = {name: value.cuda() for name, value in made("xnli", "bert", LENGTHS["mixed"]).items()}
    with torch.autocast("cuda", torch.bfloat16, enabled=precision is torch.bfloat16):
        padded, packed = (
            TASKS["xnli"].forward(built(TASKS["xnli"], folders["bert"], attention).cuda(), batch).float()
            for attention in ("sdpa", "packed")
        )
    tolerance = 0.05 if precision is torch.bfloat16 else 1e-4
    torch.testing.assert_close(packed, padded, rtol=tolerance, atol=tolerance)
