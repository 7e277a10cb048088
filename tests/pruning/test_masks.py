import numpy as np
import pytest
import torch

from lnsub.common.errors import UserError
from lnsub.pruning.masks import Mask, shuffled


def bits(text: str) -> torch.Tensor:
    """left mask row by row, as in ``"110 001"``."""
    return torch.tensor([[c == "1" for c in row] for row in text.split()])


left = Mask({"b": bits("110 001"), "a": bits("1010")})
right = Mask({"a": bits("0110"), "b": bits("100 011")})


def test_a_mask_iterates_in_name_order_whatever_it_was_made_in():
    assert list(left) == ["a", "b"]
    assert list(left.keys()) == list(left.shapes) == ["a", "b"]
    assert left.shapes == {"a": (1, 4), "b": (2, 3)}
    assert len(left) == 2
    assert torch.equal(left["b"], bits("110 001"))


def test_counts_and_shares_by_hand():
    assert (left.total, left.kept) == (10, 5)
    assert (left.density, left.sparsity) == (0.5, 0.5)
    third = Mask({"w": bits("001")})
    assert (third.density, third.sparsity) == (1 / 3, 2 / 3)


def test_dense_keeps_everything():
    dense = Mask.dense({"w": (3, 5), "v": [7]})
    assert dense.shapes == {"v": (7,), "w": (3, 5)}
    assert dense.kept == dense.total == 22
    assert (dense.density, dense.sparsity) == (1.0, 0.0)


def test_intersection_union_and_difference_by_hand():
    assert left & right == Mask({"a": bits("0010"), "b": bits("100 001")})
    assert left | right == Mask({"a": bits("1110"), "b": bits("110 011")})
    assert left - right == Mask({"a": bits("1000"), "b": bits("010 000")})
    assert right - left == Mask({"a": bits("0100"), "b": bits("000 010")})


def test_operations_leave_their_masks_alone():
    before = left.to_packed()
    _ = left & right, left | right, left - right, shuffled(left, 0), left.restricted(["a"])
    assert all(np.array_equal(before[name], packed) for name, packed in left.to_packed().items())


def test_subset_and_equality():
    assert (left & right).is_subset_of(left)
    assert left.is_subset_of(left)
    assert not left.is_subset_of(right)
    assert left.equal(Mask(dict(left)))
    assert not left.equal(right)
    assert left == Mask(dict(left))
    assert left != right
    assert left != Mask({"a": left["a"]})
    assert left != Mask({"a": left["a"], "b": left["b"].T})
    assert left != "mask"


@pytest.mark.parametrize(
    "operation",
    [lambda a, b: a & b, lambda a, b: a | b, lambda a, b: a - b, lambda a, b: a.is_subset_of(b)],
    ids=["and", "or", "difference", "subset"],
)
def test_masks_of_different_parameters_are_refused_with_what_differs(operation):
    with pytest.raises(UserError, match="1 parameter is in the second mask but not in the first mask, such as 'c'"):
        operation(left, Mask({**left, "c": bits("1")}))
    with pytest.raises(UserError, match="2 parameters are in the first mask but not in the second mask, such as 'a'"):
        operation(left, Mask({"c": bits("1")}))
    with pytest.raises(UserError, match=r"shapes of 'b' differ: \(2, 3\) in the first mask, \(3, 2\) in the second"):
        operation(left, Mask({"a": left["a"], "b": left["b"].T}))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "at least one parameter"),
        ({"w": torch.ones(2, 2)}, "'w' must be a bool tensor: got dtype torch.float32"),
        ({"w": np.ones(2, bool)}, "'w' must be a bool tensor: got ndarray"),
        ({"v": bits("1"), "w": torch.ones(0, 3, dtype=torch.bool)}, r"'w' has no elements: its shape is \(0, 3\)"),
    ],
)
def test_what_is_no_mask_is_refused_and_named(tensors, message):
    with pytest.raises(ValueError, match=message):
        Mask(tensors)


def packed_by_hand(flat: list[bool]) -> list[int]:
    return [sum(1 << i for i, bit in enumerate(flat[start : start + 8]) if bit) for start in range(0, len(flat), 8)]


@pytest.mark.parametrize("shape", [(1,), (7,), (8,), (9,), (3, 5), (16, 4), (5, 7, 3)])
def test_packing_is_little_bit_order_row_major_zero_padded_and_reverses(shape):
    mask = Mask({"w": torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.5})
    packed = mask.to_packed()
    assert packed["w"].dtype == np.uint8
    assert packed["w"].tolist() == packed_by_hand(mask["w"].flatten().tolist())
    assert Mask.from_packed(packed, mask.shapes) == mask


def test_packing_follows_rows_of_a_transposed_tensor():
    tall = torch.rand(5, 3, generator=torch.Generator().manual_seed(2)) < 0.5
    assert Mask({"w": tall.T}).to_packed()["w"].tolist() == packed_by_hand(tall.T.flatten().tolist())


def test_an_unpacked_mask_shares_no_memory_with_the_packed_one():
    packed = left.to_packed()
    mask = Mask.from_packed(packed, left.shapes)
    packed["a"][:] = 0
    assert mask == left


@pytest.mark.parametrize(
    ("packed", "shapes", "message"),
    [
        ({"w": np.zeros(2, np.uint8)}, {"v": (9,)}, "v has a? ?shape but no mask"),
        ({"w": np.zeros(2, np.uint8)}, {"w": (17,)}, r"w has 2 bytes.*\[17\] needs 3"),
        ({"w": np.zeros(2, np.uint8)}, {"w": (8,)}, "w has 2 bytes.* needs 1"),
        ({"w": np.zeros(2, np.int64)}, {"w": (9,)}, "w is int64"),
        ({"w": np.array([0, 2], np.uint8)}, {"w": (3, 3)}, "w has bits set after its last weight"),
    ],
)
def test_packed_masks_that_do_not_fit_are_refused_and_named(packed, shapes, message):
    with pytest.raises(UserError, match=message):
        Mask.from_packed(packed, shapes)


def test_restricted_keeps_only_the_named_parameters():
    assert left.restricted(iter(["b"])) == Mask({"b": left["b"]})
    with pytest.raises(UserError, match="no parameter 'c'"):
        left.restricted(["a", "c"])
    with pytest.raises(UserError, match="No parameter is left"):
        left.restricted([])


def test_shuffling_keeps_each_density_and_moves_the_places():
    mask = Mask({name: torch.arange(600).view(20, 30) < kept for name, kept in {"v": 100, "w": 300}.items()})
    moved = shuffled(mask, seed=5)
    assert {name: int(b.sum()) for name, b in moved.items()} == {"v": 100, "w": 300}
    assert moved.shapes == mask.shapes
    # 300 of 600 kept at random meet 300 kept ones in 150 places, with a standard deviation of about 6.
    assert abs((moved & mask).restricted(["w"]).kept - 150) < 5 * 6.2
    assert not torch.equal(moved["v"] | moved["w"], moved["w"])


def test_shuffling_depends_on_seed_and_name_alone():
    mask = Mask({name: torch.arange(60) < 30 for name in ("u", "v", "w")})
    assert shuffled(mask, 1) == shuffled(Mask({name: mask[name] for name in reversed(list(mask))}), 1)
    assert shuffled(mask, 1).restricted(["v"]) == shuffled(mask.restricted(["v"]), 1)
    assert shuffled(mask, 1) != shuffled(mask, 2)
    assert not torch.equal(shuffled(mask, 1)["u"], shuffled(mask, 1)["v"])


def test_to_moves_every_tensor():
    moved = left.to("meta")
    assert {b.device.type for b in moved.values()} == {"meta"}
    assert moved.shapes == left.shapes


def test_repr_tells_the_counts():
    assert repr(left) == "Mask(2 parameters, 5 of 10 weights kept)"
