"""Pruning: exact selection at mBERT's size and above, and a whole step from one round to the next."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from benchmarks.harness import MB, Case, Row, Timing, at_least, at_most, in_own_process, interleave, memory_of, row_of
from benchmarks.mbert import MBERT, TOY, Shapes, provenance, random_weights, shapes_of
from lnsub.models.subnet import Subnet
from lnsub.pruning.masks import Mask
from lnsub.pruning.scopes import SCOPES
from lnsub.pruning.selection import select
from lnsub.tickets.ticket import Ticket

LEVELS = [round(0.1 * level, 1) for level in range(10)]
GROWTH = ((12, 768), (24, 1024), (80, 1024))
TOY_GROWTH = ((2, 32),)


def run(quick: bool, repeats: int) -> list[Row]:
    """Measures selection against alternatives, by scope, in memory, in scaling, and within a whole step."""
    shapes = shapes_of(*(TOY if quick else MBERT))
    return [
        *against_others(shapes, repeats),
        *scopes(shapes, repeats),
        *memory(shapes, ("matrix",) if quick else ("global", "matrix")),
        *growth(TOY_GROWTH if quick else GROWTH, repeats),
        *steps(TOY if quick else MBERT, repeats),
    ]


def against_others(shapes: Shapes, repeats: int, sparsity: float = 0.1) -> list[Row]:
    """The same 10 % of all weights, by each of the alternatives; asserts that they prune the same weights."""
    from lightning.pytorch.callbacks import ModelPruning  # here, because child processes do not need Lightning

    weights, dense = random_weights(shapes), Mask.dense(shapes)
    quota = round(sparsity * dense.total)
    found: dict[str, Any] = {}

    def keep(name: str, work: Callable[[], Any]) -> Callable[[], None]:
        return lambda: found.__setitem__(name, work())

    linears: list[tuple[nn.Module, str]] = []

    def fresh() -> None:
        linears[:] = [(_linear(weight), "weight") for weight in weights.values()]

    def copied() -> Tensor:
        return torch.cat([weight.flatten() for weight in weights.values()]).abs_()

    def by_torch() -> list[Tensor]:
        torch_prune.global_unstructured(linears, torch_prune.L1Unstructured, amount=quota)
        return [linear.get_buffer("weight_mask") for linear, _ in linears]

    def by_lightning() -> list[Tensor]:
        callback = ModelPruning("l1_unstructured", linears, use_global_unstructured=True, amount=quota)
        callback.apply_pruning(quota)
        return [linear.get_buffer("weight_mask") for linear, _ in linears]

    ours, torchs = "lnsub, global, 10 %", "torch.nn.utils.prune.global_unstructured"
    timings = interleave(
        [
            Case(ours, keep("ours", lambda: select(weights, dense, sparsity))),
            Case("one copy of all weights", lambda: [weight.clone() for weight in weights.values()]),
            Case(torchs, keep("torch", by_torch), before=fresh, turns=min(repeats, 2), warm=False),
            Case("Lightning's ModelPruning", keep("lightning", by_lightning), before=fresh, turns=1, warm=False),
            Case("torch.kthvalue of one copied vector", keep("kth", lambda: copied().kthvalue(quota).values), turns=3),
            Case(
                "np.partition of one copied vector",
                keep("partition", lambda: np.partition(copied().numpy(), quota - 1)[quota - 1]),
            ),
        ],
        repeats,
    )
    threshold = float(found["kth"])
    assert threshold == float(found["partition"])
    for theirs in (found["torch"], found["lightning"]):
        _assert_same(found["ours"], dict(zip(weights, theirs, strict=True)), weights, threshold)
    rows = []
    for name, timing in timings.items():
        faster = [at_least(timing.ratio(timings[ours]), 50, "x lnsub's time")] if name == torchs else []
        rows.append(row_of(name, timings, ours, claims=faster))
    return rows


def scopes(shapes: Shapes, repeats: int) -> list[Row]:
    """Nine rounds of 10 % each, in every scope; the row shows the slowest round."""
    weights, dense = random_weights(shapes), Mask.dense(shapes)
    cases, places = [], {}
    for scope in SCOPES:
        mask = dense
        for sparsity in LEVELS[1:]:
            name = f"{scope} {sparsity:g}"
            cases.append(Case(name, _selecting(weights, mask, sparsity, scope), warm=False))
            places[name] = scope
            mask = select(weights, mask, sparsity, scope)
    timings = interleave(cases, repeats)
    rows = []
    for scope in SCOPES:
        of_scope = {name: timing for name, timing in timings.items() if places[name] == scope}
        slowest = max(of_scope, key=lambda name: of_scope[name].median)
        quickest = min(timing.median for timing in of_scope.values())
        rows.append(
            Row(
                f"lnsub, one round, scope {scope}: the slowest, to {slowest.split()[1]}",
                of_scope[slowest],
                values={"s the quickest": quickest},
                claims=[at_most(of_scope[slowest].median, 0.30, "s")],
            )
        )
    return rows


def memory(shapes: Shapes, in_scopes: tuple[str, ...]) -> list[Row]:
    """The memory of selection beyond the weights, the old mask and the new one."""
    weights = sum(a * b for a, b in shapes.values())
    rows = []
    for scope in in_scopes:
        extra = memory_of(_prepare_selection, shapes, scope).extra - weights
        values = {"MB beyond the masks": extra / MB}
        rows.append(Row(f"lnsub, memory, scope {scope}", values=values, claims=[at_most(extra / MB, 64, "MB")]))
    return rows


def growth(sizes: tuple[tuple[int, int], ...], repeats: int) -> list[Row]:
    """The same work on models of increasing size, turn by turn."""
    timings = in_own_process(_time_sizes, sizes, repeats)
    first, fewest = timings[0]
    rows: list[Row] = []
    for (layers, width), (timing, weights) in zip(sizes, timings, strict=True):
        growth = timing.ratio(first) * fewest / weights
        linear = [at_most(growth, 1.25, "x the first size's time a weight")]
        rows.append(
            Row(
                f"lnsub, {weights / 1e6:,.0f} M weights ({layers} layers of width {width}), to 0.5",
                timing,
                values={"ns a weight": timing.median / weights * 1e9},
                claims=linear if rows else [],
            )
        )
    return rows


def steps(size: tuple[int, int], repeats: int) -> list[Row]:
    """From the end of one round to the start of the next: select, make and save the ticket, mask and rewind."""
    layers, width = size
    model = _classifier(layers, width)
    subnet = Subnet(model)
    theta_0 = subnet.snapshot()
    parts: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s0.50.safetensors"

        def selecting() -> None:
            weights = {name: weight.detach() for name, weight in subnet.weights.items()}
            parts["mask"] = select(weights, subnet.mask, 0.5)

        def packing() -> None:
            parts["ticket"] = Ticket(parts["mask"].to_packed(), parts["mask"].shapes, provenance("fr", 0.5))

        def saving() -> None:
            parts["ticket"].save(path)

        def masking() -> None:
            subnet.set_mask(parts["mask"])

        def rewinding() -> None:
            subnet.rewind(theta_0)

        work = {
            "select": selecting,
            "pack the ticket": packing,
            "save it with its checksum": saving,
            "mask the weights": masking,
            "rewind to theta_0": rewinding,
        }

        def whole() -> None:
            for part in work.values():
                part()

        def back() -> None:
            subnet.set_mask(Mask.dense(subnet.shapes))
            subnet.rewind(theta_0)

        name = "a whole prune-rewind-write step"
        cases = [
            Case(name, whole, before=back),
            # Only selection depends on the current mask.
            *(Case(f"of it: {part}", call, back if part == "select" else None) for part, call in work.items()),
        ]
        timings = interleave(cases, repeats)
        assert Mask.from_packed(Ticket.load(path).masks, subnet.shapes) == subnet.mask
    fast = [at_most(timings[name].median, 1.5, "s")]
    return [row_of(case, timings, name, claims=fast if case == name else ()) for case in timings]


def _classifier(layers: int, width: int) -> nn.Module:
    """A sequence classifier of mBERT's shape, or a toy."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=119_547 if width == MBERT[1] else 100,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        intermediate_size=4 * width,
        num_labels=3,
    )
    torch.manual_seed(0)
    return BertForSequenceClassification(config)


def _selecting(weights: Mapping[str, Tensor], mask: Mask, sparsity: float, scope: str) -> Callable[[], Mask]:
    return lambda: select(weights, mask, sparsity, scope)


def _prepare_selection(shapes: Shapes, scope: str) -> Callable[[], Mask]:
    weights, dense = random_weights(shapes), Mask.dense(shapes)
    tiny = {name: weight[:8, :8] for name, weight in weights.items()}
    select(tiny, Mask.dense({name: weight.shape for name, weight in tiny.items()}), 0.1, scope)  # loads lazy imports
    return lambda: select(weights, dense, 0.1, scope)


def _time_sizes(sizes: tuple[tuple[int, int], ...], repeats: int) -> list[tuple[Timing, int]]:
    cases, totals = [], []
    for layers, width in sizes:
        shapes = shapes_of(layers, width)
        dense = Mask.dense(shapes)
        cases.append(Case(f"{layers} {width}", _selecting(random_weights(shapes), dense, 0.5, "global")))
        totals.append(dense.total)
    return list(zip(interleave(cases, repeats).values(), totals, strict=True))


def _linear(weight: Tensor) -> nn.Linear:
    """A layer around ``weight``, without a copy, for torch's pruning, which takes modules."""
    linear = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], bias=False)
    linear.weight = nn.Parameter(weight, requires_grad=False)
    return linear


def _assert_same(ours: Mask, theirs: Mapping[str, Tensor], weights: Mapping[str, Tensor], threshold: float) -> None:
    """Asserts the same number and choice of pruned weights except for ties, which torch's top-k breaks arbitrarily."""
    pruned = 0
    for name, bits in ours.items():
        kept = theirs[name].bool()
        pruned += kept.numel() - int(torch.count_nonzero(kept))
        assert bool((weights[name].abs()[kept != bits] == threshold).all()), name
    assert pruned == ours.total - ours.kept
