import copy
import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torch.nn.utils.prune as torch_prune
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lnsub.common.errors import UserError
from lnsub.common.threads import Workers
from lnsub.pruning import chunks as chunks
from lnsub.pruning import selection as prune
from lnsub.pruning.masks import Mask
from lnsub.pruning.scopes import SCOPES
from lnsub.pruning.selection import select
from tests.support.sorting import GROUP_OF, by_sorting, by_stable_argsort

LEVELS = [round(0.1 * i, 1) for i in range(1, 10)]
# Deliberately out of name order.
SHAPES = {
    "pooler.dense.weight": (4, 3),
    "encoder.block.10.wo.weight": (2, 7),
    "encoder.block.2.wi.weight": (5, 3),
    "encoder.block.2.wo.weight": (3, 5),
    "decoder.block.0.wi.weight": (4, 4),
    "decoder.block.2.wi.weight": (9,),
}


def drawn(shapes, seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}


# Against torch.nn.utils.prune ---------------------------------------------------------------------------------------


def net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(12, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 3))


def train(model: nn.Module, steps: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(64, 12, generator=generator)
    y = (x[:, :3] + x[:, 3:6]).argmax(1)
    for _ in range(steps):
        model.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.5 * parameter.grad
    model(x)  # torch's pruning computes module.weight in the forward pass


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("scope", ["global", "matrix"])
def test_rounds_give_the_masks_of_torch_nn_utils_prune(trained, scope):
    model = net(0)
    linears = {f"{i}.weight": model[i] for i in (0, 2, 4)}
    mask = Mask.dense({name: linear.weight.shape for name, linear in linears.items()})
    previous = 0.0
    for round_, sparsity in enumerate(LEVELS):
        if trained:
            train(model, 3, seed=round_)
        # The weights under torch's mask, not masked themselves: what is pruned must stay so whatever it scores.
        scores = {name: getattr(linear, "weight_orig", linear.weight) for name, linear in linears.items()}
        mask = select(scores, mask, sparsity, scope)
        if scope == "global":
            amount = round(sparsity * mask.total) - round(previous * mask.total)
            modules = [(linear, "weight") for linear in linears.values()]
            torch_prune.global_unstructured(modules, torch_prune.L1Unstructured, amount=amount)
        else:
            for linear in linears.values():
                total = linear.weight.numel()
                amount = round(sparsity * total) - round(previous * total)
                torch_prune.l1_unstructured(linear, "weight", amount=amount)
        previous = sparsity
        for name, linear in linears.items():
            assert torch.equal(mask[name], linear.weight_mask.bool()), (name, sparsity)


@pytest.mark.parametrize("sparsity", LEVELS)
def test_one_shot_gives_the_mask_of_torch_nn_utils_prune(sparsity):
    model = net(1)
    train(model, 5, seed=9)
    weights = {f"{i}.weight": model[i].weight for i in (0, 2, 4)}
    mask = select(weights, Mask.dense({name: w.shape for name, w in weights.items()}), sparsity)
    pruned = copy.deepcopy(model)
    modules = [(pruned[i], "weight") for i in (0, 2, 4)]
    torch_prune.global_unstructured(modules, torch_prune.L1Unstructured, amount=round(sparsity * mask.total))
    assert mask == Mask({f"{i}.weight": pruned[i].weight_mask.bool() for i in (0, 2, 4)})


# Against the definition ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("scope", SCOPES)
def test_rounds_equal_sorting_by_score_name_and_position(scope, dtype):
    mask = Mask.dense(SHAPES)
    for round_, sparsity in enumerate(LEVELS):
        scores = drawn(SHAPES, seed=round_, dtype=dtype)
        expected = by_sorting(scores, mask, sparsity, scope)
        mask = select(scores, mask, sparsity, scope)
        assert mask == expected, sparsity


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("levels", [1, 2, 5])
def test_many_ties_equal_sorting(scope, levels):
    for seed in range(5):
        mask = Mask.dense(SHAPES)
        for sparsity in (0.15, 0.3, 0.55, 0.8):
            rounded = {name: (s * levels / 2).round() for name, s in drawn(SHAPES, seed).items()}
            # Pruned weights are zeros of either sign, as masking leaves them.
            scores = {name: torch.where(mask[name], s, s * 0.0) for name, s in rounded.items()}
            expected = by_sorting(scores, mask, sparsity, scope)
            mask = select(scores, mask, sparsity, scope)
            assert mask == expected, (seed, sparsity)


def test_kept_zeros_go_before_anything_else_and_pruned_zeros_are_not_taken_for_them():
    mask = Mask({"v": torch.tensor([False, True, True]), "w": torch.tensor([True, False, True, True, True])})
    scores = {"v": torch.tensor([0.0, 0.0, 2.0]), "w": torch.tensor([-0.0, -0.0, 1.0, 0.0, 0.5])}
    for pruned, left in [(3, "001 10111"), (4, "001 00111"), (5, "001 00101"), (6, "001 00100"), (7, "001 00000")]:
        after = select(scores, mask, pruned / 8)
        assert " ".join("".join(str(int(bit)) for bit in bits) for bits in after.values()) == left


def test_dtypes_may_be_mixed_and_are_compared_by_value():
    dtypes = [torch.float64, torch.float16, torch.bfloat16, torch.float32]
    scores = {
        name: (s * 4).round().to(dtypes[i % 4]) / 4 + (1e-9 if i % 4 == 0 else 0)
        for i, (name, s) in enumerate(drawn(SHAPES, 0).items())
    }
    for few in (scores, {name: s for name, s in scores.items() if s.dtype in (torch.float16, torch.bfloat16)}):
        dense = Mask.dense({name: s.shape for name, s in few.items()})
        for sparsity in LEVELS:
            assert select(few, dense, sparsity) == by_sorting(few, dense, sparsity)


def test_strides_do_not_matter():
    scores = {"w": torch.randn(700, 500).T, "v": torch.randn(300, 40)[:, ::3], "u": torch.randn(1, 1).expand(6, 7)}
    mask = Mask({name: (torch.rand(s.shape[::-1]) < 0.9).T for name, s in scores.items()})
    assert select(scores, mask, 0.4) == by_stable_argsort(scores, mask, 0.4)


@pytest.mark.parametrize("levels", [None, 1000, 3])
def test_many_blocks_equal_a_stable_sort(levels):
    shapes = {f"encoder.layer.{i}.output.dense.weight": (300 + i, 1000) for i in range(2)}
    scores = drawn(shapes, 4)
    if levels:
        scores = {name: (s * levels / 4).round() for name, s in scores.items()}
    mask = Mask.dense(shapes)
    for sparsity in (0.001, 0.3, 0.31, 0.95):
        expected = by_stable_argsort(scores, mask, sparsity)
        mask = select(scores, mask, sparsity)
        assert mask == expected, sparsity


@pytest.mark.parametrize("special", [0.0, 1e-30, 1e30])
def test_a_sample_that_misleads_costs_no_exactness(special):
    scores = {"w": torch.randn(300, 401, generator=torch.Generator().manual_seed(5))}
    scores["w"].view(-1)[::65] = special  # the places that are sampled at this size
    dense = Mask.dense({"w": (300, 401)})
    for sparsity in (0.01, 0.5, 0.98, 0.99):
        assert select(scores, dense, sparsity) == by_stable_argsort(scores, dense, sparsity)


@pytest.mark.parametrize("direction", [-1.0, 2.0])
def test_a_threshold_right_beside_the_guessed_range_is_found(direction):
    # All sampled places hold 1.0, so the guess is 1.0 alone; all others hold the very next float below or above.
    scores = {"w": torch.nextafter(torch.ones(300, 401), torch.tensor(direction))}
    scores["w"].view(-1)[::65] = 1.0
    dense = Mask.dense({"w": (300, 401)})
    for sparsity in (0.01, 0.5, 0.99):
        assert select(scores, dense, sparsity) == by_stable_argsort(scores, dense, sparsity)


def test_extreme_values_are_ranked_as_they_are():
    values = [5e-324, -1e-310, 2.0**-1022, -1e-40, 1e-38, 3.4e38, -1.7e308, 0.0, -0.0, 1.0]
    scores = {"w": torch.tensor(values, dtype=torch.float64)}
    dense = Mask.dense({"w": (10,)})
    for k in range(10):
        assert select(scores, dense, k / 10) == by_sorting(scores, dense, k / 10)
    tiny = {"w": torch.tensor([3e-45, -1e-45, 0.0, 3e38, -1e-38])}
    assert select(tiny, Mask.dense({"w": (5,)}), 0.4)["w"].tolist() == [True, False, False, True, True]


# Properties ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", GROUP_OF)
@pytest.mark.parametrize("sparsity", [0.0, 1e-9, 0.05, 0.333, 0.5, 0.977, 1 - 1e-9])
def test_every_group_has_exactly_its_rounded_share_pruned(scope, sparsity):
    mask = select(drawn(SHAPES, 3), Mask.dense(SHAPES), sparsity, scope)
    for group in {GROUP_OF[scope](name) for name in SHAPES}:
        part = mask.restricted([name for name in SHAPES if GROUP_OF[scope](name) == group])
        assert part.total - part.kept == round(sparsity * part.total)


def test_equal_scores_are_pruned_in_name_order_then_by_position():
    shapes = {"b": (2, 3), "a": (1, 5), "c": (4,)}
    mask = select({name: torch.full(shape, -0.5) for name, shape in shapes.items()}, Mask.dense(shapes), 7 / 15)
    assert mask["a"].tolist() == [[False] * 5]
    assert mask["b"].tolist() == [[False, False, True], [True] * 3]
    assert mask["c"].tolist() == [True] * 4


@pytest.mark.parametrize("scope", SCOPES)
def test_a_pruned_weight_is_never_revived_whatever_it_scores(scope):
    scores = drawn(SHAPES, 0)
    before = select(scores, Mask.dense(SHAPES), 0.4, scope)
    for revival in (1e9, math.inf, math.nan):
        loud = {name: torch.where(before[name], s, revival) for name, s in scores.items()}
        after = select(loud, before, 0.6, scope)
        assert after.is_subset_of(before)
        assert after == select(scores, before, 0.6, scope)


def test_asking_for_the_same_sparsity_again_gives_an_equal_mask_with_memory_of_its_own():
    mask = select(drawn(SHAPES, 0), Mask.dense(SHAPES), 0.3)
    again = select(drawn(SHAPES, 1), mask, 0.3)
    assert again == mask
    assert all(again[name].data_ptr() != bits.data_ptr() for name, bits in mask.items())


def test_inputs_are_left_as_they_were():
    scores = drawn(SHAPES, 0)
    mask = select(scores, Mask.dense(SHAPES), 0.2)
    packed = mask.to_packed()
    select(scores, mask, 0.7, "layer")
    assert all(torch.equal(s, scores[name]) for name, s in drawn(SHAPES, 0).items())
    assert all(np.array_equal(packed[name], p) for name, p in mask.to_packed().items())


def test_parameters_that_require_gradients_can_be_scores():
    scores = {name: nn.Parameter(s) for name, s in drawn(SHAPES, 0).items()}
    dense = Mask.dense(SHAPES)
    assert select(scores, dense, 0.5) == select(drawn(SHAPES, 0), dense, 0.5)


def test_neither_order_nor_threads_change_the_mask():
    shapes = {f"w{i}": (300, 1000) for i in range(4)}
    scores = {name: (s * 50).round() for name, s in drawn(shapes, 0).items()}
    before = torch.get_num_threads()
    masks = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            masks.append(select(scores, Mask.dense(shapes), 0.37))
            masks.append(select(dict(reversed(scores.items())), Mask.dense(shapes), 0.37))
    finally:
        torch.set_num_threads(before)
    assert all(mask == masks[0] for mask in masks)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("scope", SCOPES)
def test_a_gpu_gives_the_cpu_mask(scope):
    shapes = {**SHAPES, "encoder.block.3.wo.weight": (2000, 3000)}
    scores = drawn(shapes, 0)
    mask = Mask.dense(shapes)
    for sparsity in LEVELS:
        on_gpu = select({name: s.cuda() for name, s in scores.items()}, mask.to("cuda"), sparsity, scope)
        mask = select(scores, mask, sparsity, scope)
        assert on_gpu.to("cpu") == mask


# Another device's way, on the CPU -----------------------------------------------------------------------------------


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Takes the CPU's weights for those of a GPU: the same operations, in chunks of so many weights."""

    def use(chunk: int) -> None:
        monkeypatch.setattr(prune, "_on_host", lambda device: False)
        monkeypatch.setattr(chunks, "CHUNK", chunk)

    return use


@pytest.mark.parametrize("chunk", [16, 40, 1 << 20])
@pytest.mark.parametrize("levels", [None, 3])
def test_chunks_that_join_parameters_give_the_same_masks(as_on_a_gpu, chunk, levels):
    as_on_a_gpu(chunk)
    mask = Mask.dense(SHAPES)
    for round_, sparsity in enumerate(LEVELS):
        scores = drawn(SHAPES, seed=round_)
        if levels:
            scores = {name: (s * levels / 2).round() for name, s in scores.items()}
        expected = by_sorting(scores, mask, sparsity)
        mask = select(scores, mask, sparsity)
        assert mask == expected, (sparsity, chunk)


class Launches(TorchDispatchMode):
    """Counts the operations that a GPU would be given, and those for whose outcome the CPU would wait."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "unique")

    def __init__(self) -> None:
        super().__init__()
        self.launched = self.waited = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        views = any(out.alias_info and not out.alias_info.is_write for out in func._schema.returns)
        self.launched += not views and name not in ("empty", "promote_types")
        indices = args[1] if name == "index" else ()
        self.waited += name in self.WAITING or any(i is not None and i.dtype == torch.bool for i in indices)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("levels", [None, 2])
def test_on_a_gpu_neither_launches_nor_waits_grow_with_the_number_of_matrices(as_on_a_gpu, monkeypatch, levels):
    as_on_a_gpu(1 << 20)
    monkeypatch.setattr(prune, "workers", lambda device: nullcontext(Workers(1, None)))  # as a GPU gets
    whole = drawn({"w": (4096, 32)}, 1)["w"]
    if levels:  # ties, some of which are kept_ties
        whole = (whole * levels).round()
    read_back = []
    tolist = torch.Tensor.tolist  # on a GPU it waits, which on the CPU no operation shows
    monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: read_back.append(tensor) or tolist(tensor))
    counted, pruned = [], []
    for matrices in (2, 64):
        scores = {f"w{i:02}": part for i, part in enumerate(whole.chunk(matrices))}
        dense = Mask.dense({name: part.shape for name, part in scores.items()})
        read_back.clear()
        with Launches() as launches:
            mask = select(scores, dense, 0.5)
        counted.append((launches.launched, launches.waited + len(read_back)))
        pruned.append(torch.cat([*mask.values()]))
    assert torch.equal(*pruned)
    # Where the sample misleads, one more pass is needed: the two samples are of different places.
    assert abs(counted[0][0] - counted[1][0]) <= 25
    assert all(waited <= 14 for _, waited in counted)


# Refusals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_nan_and_infinity_at_kept_weights_are_refused_and_named(value, dtype):
    scores = drawn(SHAPES, 0, dtype)
    scores["pooler.dense.weight"][1, 2] = value
    scores["pooler.dense.weight"][3, 0] = value
    with pytest.raises(UserError, match=r"'pooler\.dense\.weight' is NaN or infinite at 2 of its kept weights"):
        select(scores, Mask.dense(SHAPES), 0.1)


def test_negative_nan_is_refused():
    scores = {"w": torch.tensor([-1, 0, 0, 0], dtype=torch.int32).view(torch.float32)}  # all bits set: a NaN
    with pytest.raises(UserError, match="'w' is NaN"):
        select(scores, Mask.dense({"w": (4,)}), 0.25)


@pytest.mark.parametrize("sparsity", [1.0, 1.5, -0.1, math.nan])
def test_a_sparsity_out_of_range_is_refused(sparsity):
    with pytest.raises(UserError, match=f"{sparsity} is not"):
        select(drawn(SHAPES, 0), Mask.dense(SHAPES), sparsity)


def test_a_sparsity_below_what_is_pruned_is_refused():
    mask = select(drawn(SHAPES, 0), Mask.dense(SHAPES), 0.5)
    with pytest.raises(UserError, match=r"0\.4 with scope global prunes 32 of 81 .* 40 are pruned already"):
        select(drawn(SHAPES, 0), mask, 0.4)


def test_a_group_that_an_earlier_scope_pruned_further_is_refused_and_named():
    shapes = {"encoder.layer.0.output.dense.weight": (10,), "encoder.layer.1.output.dense.weight": (10,)}
    scores = {name: torch.full((10,), 1.0 + i) for i, name in enumerate(shapes)}
    mask = select(scores, Mask.dense(shapes), 0.4)  # 8 of the first layer's 10
    with pytest.raises(UserError, match=r"scope layer prunes 5 of 10 weights in layer 0, but 8 are pruned already"):
        select(scores, mask, 0.5, "layer")
    assert select(scores, mask, 0.8, "layer").kept == 4


def test_different_names_shapes_and_devices_are_refused_and_named():
    scores, dense = drawn(SHAPES, 0), Mask.dense(SHAPES)
    extra = {**scores, "classifier.weight": torch.ones(2)}
    with pytest.raises(UserError, match=r"in the scores but not in the mask, such as 'classifier\.weight'"):
        select(extra, dense, 0.1)
    with pytest.raises(UserError, match=r"in the mask but not in the scores, such as 'pooler\.dense\.weight'"):
        select({name: s for name, s in scores.items() if name != "pooler.dense.weight"}, dense, 0.1)
    with pytest.raises(
        UserError, match=r"'pooler\.dense\.weight' differ: \(3, 4\) in the scores, \(4, 3\) in the mask"
    ):
        select({**scores, "pooler.dense.weight": torch.ones(3, 4)}, dense, 0.1)
    with pytest.raises(UserError, match=r"score of 'pooler\.dense\.weight' is on meta"):
        select({**scores, "pooler.dense.weight": torch.ones(4, 3, device="meta")}, dense, 0.1)


def test_scores_that_are_not_floats_are_refused_and_named():
    with pytest.raises(UserError, match=r"'w' has dtype torch\.int64"):
        select({"w": torch.ones(3, dtype=torch.int64)}, Mask.dense({"w": (3,)}), 0.1)


def test_an_unknown_scope_is_refused_with_the_closest():
    with pytest.raises(UserError, match=r"did you mean layer\?.*global, layer, matrix, row, stack"):
        select(drawn(SHAPES, 0), Mask.dense(SHAPES), 0.1, "layers")
