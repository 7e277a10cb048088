"""Gradients times masks: both ways give the bits of torch's own product."""

import pytest
import torch

from lnsub.models.gradient_masks import GradientMasks

BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}


@pytest.mark.parametrize("dtype", BITS)
@pytest.mark.parametrize("way", [GradientMasks.apply, GradientMasks.apply_together])
def test_the_product_is_that_of_a_float_mask_to_the_last_bit(way, dtype):
    torch.manual_seed(0)
    masks = {name: torch.rand(7, 5) > 0.5 for name in "abc"}
    masks_of_gradients = GradientMasks()
    for _ in range(2):
        gradients = {name: torch.randn(7, 5).to(dtype) for name in "abc"}
        gradients["b"][0] = torch.tensor([-0.0, 1e-45, -3e38, torch.inf, torch.nan]).to(dtype)
        expected = {name: (gradients[name] * masks[name].to(dtype)).view(BITS[dtype]) for name in "abc"}
        way(masks_of_gradients, gradients, masks.__getitem__)
        assert all(torch.equal(gradients[name].view(BITS[dtype]), expected[name]) for name in "abc")


def test_masks_are_kept_until_they_change():
    masks = {"a": torch.tensor([True, False])}
    kept = GradientMasks()

    def masked() -> list[float]:
        gradients = {"a": torch.ones(2)}
        kept.apply_together(gradients, masks.__getitem__)
        return gradients["a"].tolist()

    assert masked() == [1, 0]
    masks["a"] = torch.tensor([False, True])
    assert masked() == [1, 0]
    kept.clear()
    assert masked() == [0, 1]
