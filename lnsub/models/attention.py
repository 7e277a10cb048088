"""Scaled dot-product attention as transformers runs it, except for two things that make a step slow.

No step waits for the device. In every forward pass, transformers asks whether a batch has any padding, in order to omit
the mask if there is none. The answer is on the device, so the host waits until the device has caught up, and a GPU then
idles while the next kernels are launched. Few batches have no padding, and the mask is cheap: it is always made.

On a CPU in bfloat16, torch's fused attention (2.13) has a slow backward pass: for 32 sequences of 48 tokens, 12 heads
of 32, forward and backward take 49 ms on one core, but 11 ms in float32. So a training step there without dropout,
which the fused kernel would take, runs its attention in float32.
"""

import logging
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from lnsub.models.packing import PACKED

log = logging.getLogger(__name__)

SDPA = "lnsub_sdpa"
"""The name under which transformers knows it; as it contains ``sdpa``, models without sdpa are refused as usual."""


@lru_cache(maxsize=64)  # one remark on each model
def implementation(attention: str, name: str, knows_sdpa: bool) -> str:
    """Returns transformers' name of an attention implementation.

    Args:
        attention: ``packed``, ``sdpa``, or a name of transformers', which is returned as it is.
        name: the model's folder or name, for the log.
        knows_sdpa: whether the model can use scaled dot-product attention; where not, ``sdpa`` becomes ``eager``.
    """
    if attention == "sdpa" and not knows_sdpa:
        log.info("%s: transformers has no sdpa attention for this model, so it runs with eager attention", name)
        return "eager"
    return {"packed": PACKED, "sdpa": SDPA}.get(attention, attention)


def padding_mask(
    *,
    attention_mask: Tensor | None = None,
    allow_is_causal_skip: bool = True,
    allow_is_bidirectional_skip: bool = False,
    **settings: Any,
) -> Tensor | None:
    """Makes the mask of a batch without reading its values, as transformers' attention mask interface calls it.

    Args:
        attention_mask: True at tokens, False at padding, [batch, length]; None: no padding.
        allow_is_causal_skip: return None where the attention is simply causal.
        allow_is_bidirectional_skip: return None where everything attends to everything.
        settings: the other arguments of ``sdpa_mask``.

    Returns:
        True where a query may attend to a key, [batch, 1, queries, keys]; None: no mask is needed.
    """
    unpadded = attention_mask is None
    return sdpa_mask(
        attention_mask=attention_mask,
        allow_is_causal_skip=allow_is_causal_skip and unpadded,
        allow_is_bidirectional_skip=allow_is_bidirectional_skip and unpadded,
        **settings,
    )


def attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **settings: Any
) -> tuple[Tensor, None]:
    """Runs scaled dot-product attention, as transformers' attention interface calls it.

    Args:
        module: the layer.
        query: [batch, heads, queries, width of a head].
        key: [batch, heads, keys, width of a head].
        value: the same.
        attention_mask: what :func:`padding_mask` made.
        settings: the other arguments of ``sdpa_attention_forward``.

    Returns:
        [batch, queries, heads, width of a head] in the dtype of ``query``, and no weights.
    """
    training = query.requires_grad and not settings.get("dropout")
    if not (training and query.is_cpu and query.dtype == torch.bfloat16):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
    bias = settings.pop("position_bias", None)  # T5's, which makes the mask
    with torch.autocast("cpu", enabled=False):  # autocast would convert them back
        wide = (states.float() for states in (query, key, value))
        settings["position_bias"] = None if bias is None else bias.float()
        return sdpa_attention_forward(module, *wide, attention_mask, **settings)[0].bfloat16(), None


# On GPUs from the H100 on, torch takes cuDNN for attention with a mask. It plans for half a second at each new shape of
# batch, and its gradients can be NaN at widths of 64 modulo 128 (https://github.com/pytorch/pytorch/issues/196678).
# Without it, torch takes kernels of its own. It changes nothing on a CPU.
torch.backends.cuda.enable_cudnn_sdp(False)

AttentionInterface.register(SDPA, attention)
AttentionMaskInterface.register(SDPA, padding_mask)
