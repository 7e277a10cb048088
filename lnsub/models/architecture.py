"""What kind of model a configuration makes: whether it reads from left to right, as decoders do, or in both directions.

A type of model may have classes for both in transformers (BERT, RoBERTa, XLM, X-MOD), so the class alone says nothing.
"""

from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, PretrainedConfig

from lnsub.common.errors import UserError
from lnsub.models.pretrained import load_config
from lnsub.models.transformers_internals import has_class_for

# Types of which transformers has no masked language model, but which are no decoders unless they say so.
_BOTH_WAYS = {"bert-generation", "xlnet"}


def left_to_right(base_model: str) -> bool:
    """Whether a position of this model sees only what precedes it.

    Args:
        base_model: folder or name on the Hub.

    Raises:
        UserError: there is no such model.
    """
    return reads_left_to_right(load_config(base_model))


def reads_left_to_right(config: PretrainedConfig) -> bool:
    """Whether a model of this configuration is a decoder alone, each of whose positions sees only what precedes it.

    A type with a masked language model (BERT) reads in both directions unless the configuration says ``is_decoder``
    (XLM: ``causal``; XLNet: another ``attn_type`` than ``bi``); a decoder reads to the right unless it says
    ``use_bidirectional_attention`` (EmbeddingGemma).
    """
    if config.is_encoder_decoder or not has_class_for(AutoModelForCausalLM, config):
        return False
    if has_class_for(AutoModelForMaskedLM, config) or config.model_type in _BOTH_WAYS:
        flags = (getattr(config, "is_decoder", False), getattr(config, "causal", False))
        return any(flags) or getattr(config, "attn_type", "bi") != "bi"
    return getattr(config.get_text_config(), "use_bidirectional_attention", None) not in {True, "all"}


def require_left_to_right(base_model: str, task: str) -> None:
    """Raises a :class:`UserError` unless a model reads from left to right, for a task that needs it."""
    config = load_config(base_model)
    if not reads_left_to_right(config):
        what = "is an encoder-decoder" if config.is_encoder_decoder else "reads in both directions"
        raise UserError(
            f"'{base_model}' ({config.model_type}) {what}, and {task} is for models that read from left to right:"
            " choose one such as google/gemma-3-270m, or, for an encoder, the mlm task."
        )


def refuse_left_to_right(base_model: str, task: str, instead: str) -> None:
    """Raises a :class:`UserError` if a model reads from left to right, for a task that needs both directions."""
    if left_to_right(base_model):
        raise UserError(
            f"'{base_model}' ({load_config(base_model).model_type}) reads from left to right, and {task} is for"
            f" encoders: choose an encoder such as bert-base-multilingual-cased, or the {instead} task."
        )
