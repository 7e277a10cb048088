"""Scaled dot-product attention as transformers runs it, except that no step waits for the device.

transformers asks in every forward pass whether a batch has any padding, in order to leave the mask out if it has none.
The answer is on the device, so the host must wait until the device has caught up: a GPU then idles while the next
kernels are launched. Batches that have no padding at all are few, and the mask is cheap: it is always made.
"""

from typing import Any

from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

SDPA = "lnsub_sdpa"
"""The name under which transformers knows it; as it contains ``sdpa``, models that lack that are refused as usual."""


def padding_mask(
    *,
    attention_mask: Tensor | None = None,
    allow_is_causal_skip: bool = True,
    allow_is_bidirectional_skip: bool = False,
    **settings: Any,
) -> Tensor | None:
    """Makes the mask of a batch without looking at its values, as transformers' attention mask interface calls it.

    Args:
        attention_mask: True at tokens, False at padding, [batch, length]; None: no padding.
        allow_is_causal_skip: return None where the attention is plainly causal.
        allow_is_bidirectional_skip: return None where everything attends to everything.
        settings: what else ``sdpa_mask`` takes.

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


AttentionInterface.register(SDPA, sdpa_attention_forward)
AttentionMaskInterface.register(SDPA, padding_mask)
