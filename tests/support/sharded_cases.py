"""What the ranks of tests/test_sharded.py do: each case compares what they find together with one process's result."""

import copy
import warnings
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import torch.distributed as dist
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from lnsub.cli.main import main
from lnsub.common.errors import UserError
from lnsub.models.subnet import Subnet
from lnsub.pruning.granularity import select_units
from lnsub.pruning.masks import Mask
from lnsub.pruning.scopes import SCOPES
from lnsub.pruning.scores import ScoreInputs, score
from lnsub.pruning.selection import select
from lnsub.pruning.sharding import local, whole, with_rows
from lnsub.tasks.xnli import XNLI
from lnsub.training.fit import fit
from lnsub.training.imp import IMPCallback
from lnsub.training.layer_sums import LayerSums
from lnsub.training.module import SubnetModule
from tests.support import units
from tests.support.models import bert_classifier
from tests.support.sorting import by_sorting, by_stable_argsort

# Rows that no number of ranks divides, fewer rows than ranks, and a width that fills no byte.
SHAPES = {
    "encoder.block.0.wi.weight": (5, 7),
    "encoder.block.0.wo.weight": (1, 9),
    "encoder.block.1.wi.weight": (6, 3),
    "decoder.block.0.wi.weight": (16, 4),
    "decoder.block.1.wi.weight": (3, 11),
    "pooler.dense.weight": (2, 8),
}
LARGE = {"encoder.block.0.wi.weight": (1001, 301), "pooler.dense.weight": (403, 700)}  # more than one block of each


def cases(rank: int, count: int) -> None:
    """All cases, in one start of the processes."""
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (count,))
    every_scope_and_sparsity(mesh)
    rows_may_lie_across_ranks(mesh)
    units_are_ranked_over_all_ranks(mesh)
    ties_go_by_position_over_all_ranks(mesh)
    many_weights_with_ties(mesh)
    what_cannot_be_ranked_is_refused_alike(mesh)
    random_scores_are_those_of_one_process(mesh)
    sums_over_examples_are_those_of_one_process(mesh)
    a_model_trains_and_is_pruned_and_rewound(mesh)
    dist.destroy_process_group()


def drawn(shapes: dict[str, tuple[int, ...]], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}


def shared(tensors: Any, mesh: DeviceMesh) -> dict[str, Tensor]:
    return {name: distribute_tensor(t, mesh, [Shard(0)], src_data_rank=None) for name, t in tensors.items()}


def same_bits(mask: Mask, expected: Mask) -> bool:
    mine, its = mask.to_packed(), expected.to_packed()
    return mask.shapes == expected.shapes and all((mine[name] == its[name]).all() for name in its)


def every_scope_and_sparsity(mesh: DeviceMesh) -> None:
    for scope in SCOPES:
        for dtype in (torch.float32, torch.bfloat16):
            scores = drawn(SHAPES, dtype)
            one = Mask.dense(SHAPES)
            many = Mask(shared(one, mesh))
            for sparsity in (0.1, 0.35, 0.7, 0.95):
                one, truth = select(scores, one, sparsity, scope), by_sorting(scores, one, sparsity, scope)
                many = select(shared(scores, mesh), many, sparsity, scope)
                assert one == truth
                assert same_bits(many, truth), (scope, dtype, sparsity)
                assert (many.kept, many.total) == (one.kept, one.total)
                assert many == Mask(shared(one, mesh))
                assert many != Mask(shared(Mask.dense(SHAPES), mesh))
                assert many.is_subset_of(Mask(shared(Mask.dense(SHAPES), mesh)))


def rows_may_lie_across_ranks(mesh: DeviceMesh) -> None:
    scores = {"c": torch.randn(9, 5, generator=torch.manual_seed(0)).round()}
    shapes = {"c": (9, 5)}
    turned = by_sorting({"c": scores["c"].T}, Mask.dense({"c": (5, 9)}), 0.4, "row")
    many = select(shared(scores, mesh), Mask(shared(Mask.dense(shapes), mesh)), 0.4, "row", {"c": 0})
    assert same_bits(many, Mask({"c": turned["c"].T.contiguous()}))


def units_are_ranked_over_all_ranks(mesh: DeviceMesh) -> None:
    scores = drawn(units.SHAPES)
    for scope in ("global", "layer"):
        one = Mask.dense(units.SHAPES)
        many = Mask(shared(one, mesh))
        for sparsity in (0.25, 0.5, 0.8):
            one = select_units(scores, one, sparsity, scope, units.neurons())
            many = select_units(shared(scores, mesh), many, sparsity, scope, units.neurons())
            assert 0 < many.kept < many.total
            assert same_bits(many, one), (scope, sparsity)


def ties_go_by_position_over_all_ranks(mesh: DeviceMesh) -> None:
    for values in ({n: t.round() for n, t in drawn(SHAPES).items()}, {n: torch.ones(s) for n, s in SHAPES.items()}):
        for scope in SCOPES:
            for sparsity in (0.2, 0.5, 0.77):
                truth = by_sorting(values, Mask.dense(SHAPES), sparsity, scope)
                many = select(shared(values, mesh), Mask(shared(Mask.dense(SHAPES), mesh)), sparsity, scope)
                assert same_bits(many, truth), (scope, sparsity)


def many_weights_with_ties(mesh: DeviceMesh) -> None:
    scores = {name: (values * 50).round() for name, values in drawn(LARGE).items()}
    scores["pooler.dense.weight"][:200] *= 100  # ranks differ in what they hold
    many = Mask(shared(Mask.dense(LARGE), mesh))
    one = Mask.dense(LARGE)
    for sparsity in (0.3, 0.8):
        one = by_stable_argsort(scores, one, sparsity)
        many = select(shared(scores, mesh), many, sparsity)
        assert same_bits(many, one), sparsity


def what_cannot_be_ranked_is_refused_alike(mesh: DeviceMesh) -> None:
    scores = drawn(SHAPES)
    scores["encoder.block.0.wi.weight"][0, 0] = float("nan")  # on the first rank alone
    scores["encoder.block.0.wi.weight"][4, 6] = float("inf")  # on another
    mask = Mask(shared(Mask.dense(SHAPES), mesh))
    with pytest.raises(UserError, match="weight' is NaN or infinite at 2 of its kept weights"):
        select(shared(scores, mesh), mask, 0.5)
    half = select(shared(drawn(SHAPES), mesh), mask, 0.5)
    with pytest.raises(UserError, match="are pruned already"):
        select(shared(drawn(SHAPES), mesh), half, 0.4)
    with pytest.raises(ValueError, match="sharded"):
        select(drawn(SHAPES), mask, 0.5)


def random_scores_are_those_of_one_process(mesh: DeviceMesh) -> None:
    weights = drawn(SHAPES)
    expected = score("random", ScoreInputs(weights=weights, seed=5))
    for name, values in score("random", ScoreInputs(weights=shared(weights, mesh), seed=5)).items():
        assert torch.equal(whole(values), expected[name])


def sums_over_examples_are_those_of_one_process(mesh: DeviceMesh) -> None:
    """Every rank has the same examples, and sums squares for its own rows."""
    one, many = bert_classifier(), bert_classifier()
    alone, sharing = Subnet(one), Subnet(many)
    sharing.shard(mesh)
    needs: Any = frozenset({"squared_gradients", "activations"})
    found = []
    for model, subnet in ((one, alone), (many, sharing)):
        sums = LayerSums(model, subnet.weights, needs)
        with sums.recording():
            for seed in (1, 2):
                generator = torch.Generator().manual_seed(seed)
                ids = torch.randint(5, 60, (5, 12), generator=generator)
                tokens = torch.arange(12) < torch.tensor([12, 9, 7, 3, 1])[:, None]
                sums.start([tokens])
                logits = model(input_ids=ids, attention_mask=tokens.long()).logits
                nn.functional.cross_entropy(logits, torch.arange(5) % 3, reduction="sum").backward()
                sums.finish()
        found.append(sums)
    expected, sums = found
    assert sums.seen == expected.seen == dict.fromkeys(alone.weights, 2)
    for name, weight in sharing.weights.items():
        squares = whole(with_rows(sums.squares[name], weight))
        torch.testing.assert_close(squares, expected.squares[name], rtol=1e-4, atol=1e-9)
        torch.testing.assert_close(sums.inputs[name], expected.inputs[name], rtol=1e-5, atol=1e-6)
        assert sums.tokens[name] == expected.tokens[name] == (10 if "pooler" in name else 64)


def a_model_trains_and_is_pruned_and_rewound(mesh: DeviceMesh) -> None:
    """Every rank has the same batches, so that the mean over the ranks is what one process has."""
    one, many = bert_classifier(), bert_classifier()
    alone, sharing = Subnet(one), Subnet(many)
    theta_0 = alone.snapshot()
    whole_before = copy.deepcopy(theta_0)
    sharing.shard(mesh)
    parts = sharing.snapshot()
    assert sharing.fingerprint() == alone.fingerprint()
    for round_, sparsity in enumerate((0.3, 0.6, 0.8)):
        torch.manual_seed(round_)
        pair = [(model, torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)) for model in (one, many)]
        for _ in range(3):
            batch = {"input_ids": torch.randint(5, 60, (8, 12)), "labels": torch.randint(0, 3, (8,))}
            losses = []
            for (model, optimizer), subnet in zip(pair, (alone, sharing), strict=True):
                optimizer.zero_grad()
                loss = model(**batch).loss
                loss.backward()
                subnet.mask_gradients()
                nn.utils.clip_grad_norm_(model.parameters(), 0.5)
                optimizer.step()
                losses.append(loss.detach())
            torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-5)
        for name, weight in sharing.weights.items():
            kept = local(sharing.mask[name])
            assert torch.equal(local(weight.detach())[~kept], torch.zeros(int((~kept).sum())))
            assert round_ == 0 or (~sharing.mask[name]).sum().full_tensor() > 0

        # From the very same weights, the very same mask: also after a forward pass that no backward pass follows.
        with torch.no_grad():
            many(**batch)
        gathered = {name: whole(weight.detach()) for name, weight in sharing.weights.items()}
        before = Mask({name: whole(bits) for name, bits in sharing.mask.items()})
        mask = select({n: w.detach() for n, w in sharing.weights.items()}, sharing.mask, sparsity)
        expected = select(gathered, before, sparsity)
        assert same_bits(mask, expected)
        sharing.set_mask(mask)
        alone.set_mask(expected)
        sharing.rewind(theta_0 if round_ == 1 else parts)  # a snapshot from before it was shared out serves as well
        alone.rewind(theta_0)
        for (name, mine), its in zip(many.state_dict().items(), one.state_dict().values(), strict=True):
            assert torch.equal(whole(mine), its), name
    assert all(torch.equal(theta_0[name], tensor) for name, tensor in whole_before.items())


KINDS: dict[str, dict[str, Any]] = {
    "magnitude": {"rewind": "step", "rewind_step": 2},
    "taylor": {"score": "taylor", "score_examples": 32},
    "fisher": {"score": "fisher", "score_examples": 21},
    "magnitude_init": {"score": "magnitude_init", "scope": "matrix"},
    "bf16": {"precision": "bf16-mixed"},
}
"""Settings of a run, by its name: the callback's, and the trainer's precision."""


class Stop(Callback):
    """Breaks off before the step that is number ``step``."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise KeyError("pulled the plug")


def runs(rank: int, count: int, base: str, data: Path, output: Path, kinds: list[str], stop_at: int | None) -> None:
    """Whole runs of IMP with three rounds of eight steps, as one rank of ``count``; each kind has its own folder."""
    _quiet(data)
    for kind in kinds:
        settings = dict(KINDS[kind])
        precision = settings.pop("precision", "32-true")
        datamodule = XNLI(
            language="en", tokenizer=base, dataset=str(data), batch_size=16 // count, max_length=32, seed=3
        )
        module = SubnetModule(datamodule.task, base, learning_rate=5e-3, seed=3)
        trainer = Trainer(
            default_root_dir=output / kind,
            callbacks=[IMPCallback(sparsities=[0.3, 0.6], **settings), *([Stop(stop_at)] if stop_at else [])],
            accelerator="cpu",
            devices=count,
            strategy="sharded" if count > 1 else "auto",
            precision=precision,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            max_epochs=2,
            gradient_clip_val=1.0,
        )
        if stop_at is None:
            fit(trainer, module, datamodule, checkpoint_every_n_steps=3)
        else:
            with pytest.raises(KeyError):
                fit(trainer, module, datamodule, checkpoint_every_n_steps=3)


def commands(rank: int, lines: list[list[str]], data: Path) -> list[int]:
    """`lnsub`, several times over, as one rank of a job; the exit statuses."""
    _quiet(data)
    return [main(args) for args in lines]


def _quiet(data: Path) -> None:
    torch.set_num_threads(1)
    datasets.config.HF_DATASETS_CACHE = data.parent / "cache"
    warnings.simplefilter("ignore")
