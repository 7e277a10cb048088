"""Classifiers of decoders for which transformers has none: Gemma 3's over tokens, XGLM's over tokens and sequences, ...

They are made of transformers' own parts (a dropout and a linear layer on the bare model), and registered with the auto
class that loads them. Whoever loads such a model from an exported folder calls :func:`add_missing_head` first.
"""

from typing import Any

from transformers import (
    MODEL_MAPPING,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_layers import GenericForSequenceClassification, GenericForTokenClassification

from lnsub.models.transformers_internals import has_class_for

_HEADS: dict[Any, tuple[type, str]] = {
    AutoModelForSequenceClassification: (GenericForSequenceClassification, "ForSequenceClassification"),
    AutoModelForTokenClassification: (GenericForTokenClassification, "ForTokenClassification"),
}
_added: set[type] = set()


def add_missing_head(auto_class: Any, config: PretrainedConfig) -> None:
    """Teaches an auto class of transformers a decoder that it has no model of; does nothing where it has one.

    Args:
        auto_class: ``AutoModelForTokenClassification`` or ``AutoModelForSequenceClassification``; another is left as
            it is.
        config: the model's configuration. One that is not a decoder's is left without.
    """
    decoder = has_class_for(AutoModelForCausalLM, config) and not has_class_for(AutoModelForMaskedLM, config)
    known = type(config) in MODEL_MAPPING and auto_class in _HEADS
    if not known or not decoder or config.is_encoder_decoder or has_class_for(auto_class, config):
        return
    generic, suffix = _HEADS[auto_class]
    bare = MODEL_MAPPING[type(config)]
    family = next(parent for parent in bare.__mro__[1:] if issubclass(parent, PreTrainedModel))
    name = bare.__name__.removesuffix("Model") + suffix
    facts = {
        "config_class": type(config),
        "base_model_prefix": family.base_model_prefix or "model",
        "__module__": __name__,
    }
    made = type(name, (generic, family), facts)
    auto_class.register(type(config), made, exist_ok=True)  # without, transformers' own configurations are passed over
    _added.add(made)


def is_added(model: PreTrainedModel) -> bool:
    """Whether a model's class was made here, so that transformers alone cannot load it."""
    return type(model) in _added
