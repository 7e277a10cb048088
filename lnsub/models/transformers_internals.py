"""What lnsub takes from transformers that has no public name; each function says which public way is missing."""

from typing import Any

from transformers import PretrainedConfig, PreTrainedModel


def has_class_for(auto_class: Any, config: PretrainedConfig) -> bool:
    """Whether one of transformers' ``AutoModelFor...`` knows a model of a configuration's type.

    The public methods of an auto class raise only where they would make the model, for this and for other reasons.
    """
    return type(config) in auto_class._model_mapping


def attention_of(model: PreTrainedModel) -> str:
    """The name of the attention implementation that a model was made with.

    It can be set by ``model.set_attn_implementation``, but read by no public name.
    """
    return model.config._attn_implementation
