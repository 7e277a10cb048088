"""Attention: what transformers' own computes, without a look at the mask, and in float32 where bfloat16 is slow."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, ModernBertConfig, ModernBertForSequenceClassification
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from lnsub.models.attention import attention
from lnsub.models.pretrained import load_model
from tests.support.models import save_checkpoint

WORDS = [f"w{i}" for i in range(40)]


@pytest.fixture(scope="module", params=["bert", "modernbert"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Models whose layers all see everything, and whose layers partly see a window only."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    if request.param == "bert":
        return str(save_checkpoint(folder, WORDS))
    torch.manual_seed(0)
    config = ModernBertConfig(
        vocab_size=60, hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
        local_attention=4, global_attn_every_n_layers=3, pad_token_id=0,
    )  # fmt: skip
    ModernBertForSequenceClassification(config).save_pretrained(folder)
    return str(folder)


def gradients(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
    model.zero_grad()
    logits = model(**batch).logits
    logits.square().sum().backward()
    return logits.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("padded", [True, False])
def test_logits_and_gradients_are_those_of_transformers_own(checkpoint, padded):
    ours, _ = load_model(AutoModelForSequenceClassification, checkpoint, init="pretrained", attention="sdpa")
    theirs = AutoModelForSequenceClassification.from_pretrained(checkpoint, attn_implementation="sdpa")
    theirs.load_state_dict(ours.state_dict())
    ids = torch.randint(5, 40, (4, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    if padded:
        mask[1, 5:] = mask[3, 9:] = 0
    (logits, found), (expected, right) = (
        gradients(m.eval(), {"input_ids": ids, "attention_mask": mask}) for m in (ours, theirs)
    )
    if padded:  # the same mask, so the same to the last bit
        assert torch.equal(logits, expected)
        assert all(torch.equal(a, b) for a, b in zip(found, right, strict=True))
    # An all-true mask takes another branch of the kernel.
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(found, right)


def attend(function: object, states: list[Tensor], mask: Tensor) -> tuple[Tensor, list[Tensor]]:
    leaves = [s.clone().requires_grad_() for s in states]
    with torch.autocast("cpu", torch.bfloat16):
        out = function(nn.Identity(), *leaves, mask, dropout=0.0, scaling=None, is_causal=False)[0]  # type: ignore[operator]
    out.float().square().sum().backward()
    return out.detach(), [leaf.grad for leaf in leaves]


def test_in_bfloat16_on_a_cpu_values_and_gradients_are_at_least_as_near_to_float32():
    random = torch.Generator().manual_seed(0)
    wide = [torch.randn(3, 2, 9, 8, generator=random) for _ in range(3)]
    narrow = [states.bfloat16() for states in wide]
    mask = torch.ones(3, 1, 9, 9, dtype=torch.bool)
    mask[1, :, :, 6:] = False
    truth = [s.float().requires_grad_() for s in narrow]
    exact = nn.functional.scaled_dot_product_attention(*truth, attn_mask=mask).transpose(1, 2)
    exact.square().sum().backward()
    out, found = attend(attention, narrow, mask)
    fused, theirs = attend(sdpa_attention_forward, narrow, mask)
    assert out.dtype == torch.bfloat16
    assert out.shape == exact.shape
    assert (out - exact).abs().max() <= (fused - exact).abs().max() * 1.5 + 1e-3
    for leaf, mine, other in zip(truth, found, theirs, strict=True):
        assert mine.dtype == torch.bfloat16
        assert (mine - leaf.grad).norm() <= (other - leaf.grad).norm() * 1.1


def test_cudnn_is_kept_out_of_attention():
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.mem_efficient_sdp_enabled()
