"""Selection within rows, against torch.sort row by row, whatever axis the rows lie along."""

import pytest
import torch

from lnsub.common.errors import UserError
from lnsub.pruning.masks import Mask
from lnsub.pruning.rows import select_in_rows
from lnsub.pruning.scores import ScoreInputs, score
from lnsub.pruning.selection import select


def sorted_rows(values: torch.Tensor, sparsity: float) -> torch.Tensor:
    """The mask of [..., n] that keeps all but the ``round(sparsity * n)`` lowest of each row."""
    kept = torch.ones_like(values, dtype=torch.bool)
    order = values.abs().sort(dim=-1, stable=True).indices
    return kept.scatter(-1, order[..., : round(sparsity * values.shape[-1])], False)


# name: shape and the axis of the input features
LAYOUTS = {"linear": ((7, 12), 1), "conv1d": ((12, 7), 0), "experts": ((3, 7, 12), 2), "turned": ((3, 12, 7), 1)}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("sparsity", [0.0, 0.04, 0.3, 0.5, 0.97])
def test_each_row_is_pruned_as_sorting_prunes_it(name, sparsity):
    shape, axis = LAYOUTS[name]
    values = (torch.randn(shape, generator=torch.manual_seed(0)) * 4).round()  # with many ties
    found = select({name: values}, Mask.dense({name: shape}), sparsity, "row", {name: axis})
    expected = sorted_rows(values.movedim(axis, -1), sparsity).movedim(-1, axis)
    assert torch.equal(found[name], expected)


def test_what_is_pruned_stays_so_and_too_much_is_refused():
    values = {"a": torch.tensor([[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]])}
    before = Mask({"a": torch.tensor([[False, True, True, True], [True, True, True, False]])})
    after = select_in_rows(values, before, 0.5)
    assert after["a"].tolist() == [[False, True, True, False], [False, True, True, False]]
    with pytest.raises(UserError, match="scope row prunes 1 of 4 weights in each row of a, but in some rows more"):
        select_in_rows(values, after, 0.25)


def test_nan_is_refused_only_where_it_is_kept():
    values = {"a": torch.tensor([[1.0, float("nan"), 3.0, 4.0]])}
    select(values, Mask({"a": torch.tensor([[True, False, True, True]])}), 0.5, "row")
    with pytest.raises(UserError, match="NaN"):
        select(values, Mask.dense({"a": (1, 4)}), 0.5, "row")


@pytest.mark.parametrize("name", LAYOUTS)
def test_wanda_is_each_weight_times_the_norm_of_what_it_meets(name):
    shape, axis = LAYOUTS[name]
    weight = torch.randn(shape, generator=torch.manual_seed(1))
    tokens = torch.randn(*shape[:-2], 50, 12, generator=torch.manual_seed(2))
    inputs = ScoreInputs({name: weight}, activations={name: tokens.square().mean(-2)}, inputs={name: axis})
    found = score("wanda", inputs)[name].movedim(axis, -1)
    expected = weight.abs().movedim(axis, -1) * tokens.norm(dim=-2).unsqueeze(-2)
    torch.testing.assert_close(found.abs(), expected / 50**0.5)
