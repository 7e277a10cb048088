"""What the weights of a loaded model must be, so that they are the theta_0 that was pre-trained."""

import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from lnsub.common.errors import UserError
from lnsub.common.plain_data import UnreadableError
from lnsub.models.prunable import Coverage, prunable
from lnsub.models.skeleton import Skeleton

log = logging.getLogger(__name__)


def check_loaded(model: PreTrainedModel, name: str, info: Mapping[str, Any]) -> set[str]:
    """Refuses a model whose base is not what its checkpoint holds; a remark names layers that were left out.

    Weights inside of the base model that are drawn at random would be pruned, and counted, as if they were pre-trained.
    A pooler alone is often missing: pre-training by masked words has no use for it.

    Args:
        model: what ``from_pretrained`` returned.
        name: its folder or name on the Hub, for the remark.
        info: the loading info that came with it.

    Returns:
        The names of the parameters that were drawn: those of the task head, and of a missing pooler.

    Raises:
        UnreadableError: other parameters are missing or of another shape, or some are NaN or infinite.
    """
    here = {parameter for parameter, _ in model.named_parameters(remove_duplicate=False)}
    mismatched = {entry[0] for entry in info["mismatched_keys"]} & here
    drawn = set(info["missing_keys"]) & here | mismatched
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    for parameter in sorted(drawn):
        # A model that is its own base, as encoder-decoders are, has its output layer beside the stacks.
        if parameter.startswith(prefix) and not parameter.startswith("lm_head."):
            if parameter in mismatched:
                raise UnreadableError(f"the shape of {parameter} in its weights is not the one that config.json gives")
            if not parameter.startswith(f"{prefix}pooler."):
                raise UnreadableError(f"its weights lack {parameter}, which config.json asks for")
    _check_finite(model)
    if unused := _unused_layers(model, info["unexpected_keys"]):
        log.warning("%s: config.json leaves out layers that its weights have, such as %s", name, min(unused))
    return drawn


def check_blocks(model: PreTrainedModel, name: str, bare: Skeleton) -> None:
    """Refuses a model whose task head has changed which blocks it consists of; warns where some cannot be pruned.

    Args:
        model: the model with its head.
        name: its folder or name on the Hub, for messages.
        bare: the model without a head.

    Raises:
        UserError: the model has other block weights than the bare one, so tickets would be of other weights.
    """
    here = {weight for weight in prunable(model) if not weight.startswith("pooler.")}
    if odd := sorted(here ^ bare.blocks):
        raise UserError(
            f"'{name}' cannot be used for this task: {type(model).__name__} "
            f"{'has' if odd[0] in here else 'lacks'} the weights {odd[0]}, unlike the bare model, so its tickets could"
            " not be compared with those of other tasks. Choose another base model."
        )
    if bare.coverage.left_out:
        _warn_of_share(name, bare.coverage)


@lru_cache(maxsize=64)  # one warning for each model
def _warn_of_share(name: str, covered: Coverage) -> None:
    log.warning(
        "%s: only %.1f %% of the weights in its blocks can be pruned, and sparsity counts these alone; %s and others"
        " stay as they are",
        name,
        100 * covered.prunable / covered.total,
        covered.left_out[0],
    )


def _check_finite(model: PreTrainedModel) -> None:
    """Refuses NaN and infinite weights: pruning by magnitude could not rank them."""
    for name, weight in model.named_parameters():
        # A sum, which nothing infinite leaves finite, needs no memory; it may overflow too, so then they are looked at.
        if not weight.sum().isfinite() and not weight.isfinite().all():
            raise UnreadableError(f"{name} has weights that are NaN or infinite")


def _unused_layers(model: PreTrainedModel, unexpected: set[str]) -> list[str]:
    """The weights of layers that a configuration leaves out: on purpose, to cut a model, or by mistake."""
    # Names in the base model are a part of those in the file, whether or not that was saved with a head.
    blocks = [name for name, module in model.base_model.named_modules() if isinstance(module, nn.ModuleList)]
    return [weight for weight in unexpected if any(f".{block}." in f".{weight}" for block in blocks)]
