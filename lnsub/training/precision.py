"""Which precision a run computes in: what its settings say, unless the processor would be far slower at it."""

import logging
from collections.abc import Mapping
from typing import Any

import torch

log = logging.getLogger(__name__)

_MIXED = frozenset({"bf16-mixed", "bf16"})
_UNITS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"""What computes products in bfloat16 on x86 and on Arm, by torch's names."""


def affordable(precision: Any, accelerator: Any) -> Any:
    """Replaces mixed bfloat16 by float32 on a processor without units for it.

    Such a processor converts every operand, and was measured at 1.3 GFLOP/s in bfloat16 against 78 in float32.

    Args:
        precision: ``trainer.precision``.
        accelerator: ``trainer.accelerator``.

    Returns:
        ``32-true``, which a warning says, or ``precision``.
    """
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and torch.accelerator.current_accelerator(True) is None)
    if precision not in _MIXED or not on_cpu or has_bf16_units(torch.cpu.get_capabilities()):
        return precision
    log.warning(
        f"trainer.precision is {precision}, but this processor has no units for bfloat16, which would be many times "
        "slower here than float32: this run computes in 32-true."
    )
    return "32-true"


def has_bf16_units(capabilities: Mapping[str, Any]) -> bool:
    """Whether a processor has units for products in bfloat16; True for one of which torch does not say.

    Args:
        capabilities: what ``torch.cpu.get_capabilities`` says of it.
    """
    told = [capabilities[unit] for unit in _UNITS if unit in capabilities]
    return not told or any(told)
