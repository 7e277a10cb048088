"""What lnsub takes from transformers that has no public name; each function says which public way is missing."""

from typing import Any

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel


def has_class_for(auto_class: Any, config: PretrainedConfig) -> bool:
    """Whether one of transformers' ``AutoModelFor...`` knows a model of a configuration's type.

    The public methods of an auto class raise only where they would make the model, for this and for other reasons.
    """
    return type(config) in auto_class._model_mapping


def knows_sdpa(auto_class: Any, config: PretrainedConfig) -> bool:
    """Whether the model that an auto class makes of a configuration can compute its attention by torch's sdpa.

    The public way is to make the model and to catch what it raises.
    """
    classes = auto_class._model_mapping[type(config)]
    return all(made._supports_sdpa for made in (classes if isinstance(classes, tuple) else (classes,)))


def attention_of(model: PreTrainedModel) -> str:
    """The name of the attention implementation that a model was made with.

    It can be set by ``model.set_attn_implementation``, but read by no public name.
    """
    return model.config._attn_implementation


def knows_experts(module: nn.Module) -> bool:
    """Whether transformers computes this layer's stacked experts by its interface, without biases and a norm of theirs.

    Modules that the decorator ``use_experts_implementation`` made share no public class.
    """
    return hasattr(module, "_apply_gate") and not (module.has_bias or getattr(module, "has_post_expert_norm", False))


def expert_activation(module: nn.Module, projected: Tensor) -> Tensor:
    """What experts make of their first projection, [..., projected features] -> [..., intermediate features].

    No public name says how gate and up matrices are laid out in one tensor.
    """
    layer: Any = module
    return layer._apply_gate(projected) if layer.has_gate else layer.act_fn(projected)
