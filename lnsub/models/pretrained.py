"""Pre-trained models, configurations and tokenizers by name or folder: loaded quietly, refused in one sentence."""

import copy
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from lnsub.common.errors import RunError, UserError
from lnsub.common.names import looks_local
from lnsub.common.plain_data import UnreadableError
from lnsub.models.attention import implementation
from lnsub.models.heads import add_missing_head
from lnsub.models.loaded_weights import check_blocks, check_loaded
from lnsub.models.model_folder import check_config, check_files, check_weights
from lnsub.models.packing import pack, refuse_unpackable
from lnsub.models.skeleton import Skeleton
from lnsub.models.tokenizers_internals import is_panic
from lnsub.models.transformers_internals import has_class_for, knows_sdpa

log = logging.getLogger(__name__)

Init = Literal["pretrained", "random"]
Dtype = Literal["float32", "bfloat16"]

_LONGEST_REASON = 240
"""The most characters of a library's message that are passed on."""


@contextmanager
def quiet() -> Iterator[None]:
    """Silences transformers' progress bars and its report of freshly initialised weights, which are expected here."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(transformers_logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


@contextmanager
def _refusing(what: str, name: str) -> Iterator[None]:
    """Turns whatever reading a bad name or folder raises into a :class:`UserError`.

    A broken file makes the libraries raise errors of all types, from far inside of them; so no type is left out.
    """
    path = Path(name).expanduser()
    if looks_local(name):
        if not path.is_dir():
            raise UserError(f"There is no folder '{name}' to load the {what} from.")
        if not (path / "config.json").is_file():
            raise UserError(f"The folder '{name}' holds no Hugging Face model: it has no config.json.")
    try:
        with quiet():
            yield
    except RunError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        if path.is_dir() or not isinstance(error, OSError):
            raise UserError(f"The {what} in '{name}' cannot be loaded: {_reason(error)}.") from error
        raise UserError(
            f"'{name}' is neither a folder here nor a {what} that could be fetched from the Hugging Face Hub: check the"
            " name and the network, or give a folder."
        ) from error


def _reason(error: BaseException) -> str:
    """The first line of an error, or two where it goes on; with its type where it was not written for people."""
    lines = [part.strip() for part in str(error).strip().splitlines()]
    line = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])
    line = line.rstrip(".:") if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]} ..."
    if isinstance(error, OSError | ValueError | ImportError | SafetensorError):
        return line or type(error).__name__
    return f"its files do not fit together ({type(error).__name__}: {line})"


@lru_cache(maxsize=8)
def load_config(name: str) -> PretrainedConfig:
    """Loads a model's configuration.

    Args:
        name: folder or name on the Hub.

    Raises:
        UserError: there is none, or it is not that of any model.
    """
    with _refusing("model", name):
        if looks_local(name):
            check_files(Path(_place(name)))
        check_config(PretrainedConfig.get_config_dict(_place(name), **_reading(name))[0])
        return AutoConfig.from_pretrained(_place(name), **_reading(name))


@lru_cache(maxsize=8)
def _skeleton(name: str) -> Skeleton | None:
    """The model that a configuration makes, without memory; refuses it where it makes none."""
    config = load_config(name)
    with _refusing("model", name):
        return Skeleton.of(copy.deepcopy(config))


@lru_cache(maxsize=8)
def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Loads a model's fast tokenizer; one object per name.

    Its ``model_max_length`` is at most the number of positions that the model has embeddings for. Where it has no
    padding token, the one that ends a text serves: what is padding is said by the attention mask.

    Args:
        name: folder or name on the Hub.

    Raises:
        UserError: there is none, it is not a fast one, or it gives what the model has no embeddings for.
    """
    # Only this process tokenises, in batches: on all cores that is 1.5 times as fast on two of them. Set at all, the
    # variable also keeps the library from warning whenever a loader's workers, which never tokenise, are forked.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    load_config(name)  # a name without any model is refused here, with one round of retries instead of two
    with _refusing("tokenizer", name):
        tokenizer = AutoTokenizer.from_pretrained(_place(name), **_reading(name))
    if not tokenizer.is_fast:
        raise UserError(f"The tokenizer of '{name}' has no fast version (tokenizer.json), which lnsub needs.")
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise UserError(f"The tokenizer of '{name}' has neither a padding token, which batches need, nor an end.")
        tokenizer.pad_token = tokenizer.eos_token
        log.info("%s has no padding token: batches are padded with %s", name, tokenizer.eos_token)
    if hasattr(tokenizer, "tgt_lang"):  # mBART's and NLLB's: what they write are labels, and those are English
        english = (token for token in tokenizer.all_special_tokens if token.split("_")[0] in ("en", "eng"))
        tokenizer.tgt_lang = next(english, None)
    model = _skeleton(name)
    with _refusing("tokenizer", name):
        _check_tokenizer(tokenizer, model)
    return tokenizer


def _check_tokenizer(tokenizer: PreTrainedTokenizerBase, model: Skeleton | None) -> None:
    """Refuses a tokenizer that fails, or whose tokens, types or lengths go beyond a model's; sets its longest input."""
    longest = tokenizer.model_max_length
    if not isinstance(longest, int | float) or not longest >= 1:
        raise UnreadableError(f"its model_max_length is {longest!r}")
    # A word that is in no vocabulary, and a pair: the parts that fail only when they are used.
    encoded = tokenizer(["a \u2603"], ["a"], truncation="longest_first", max_length=8)
    lists = [key for key in ("input_ids", "token_type_ids") if key in tokenizer.model_input_names]
    if lists[:1] != ["input_ids"] or not all(key in encoded for key in lists):
        raise UnreadableError(f"its model_input_names are {tokenizer.model_input_names}")
    if model is None:
        return
    highest = max(*tokenizer.get_vocab().values(), *encoded["input_ids"][0], tokenizer.pad_token_id)
    if highest >= model.vocabulary:
        raise UnreadableError(
            f"its tokens are numbered up to {highest:,}, but the model has embeddings of {model.vocabulary:,} only"
        )
    types = max(encoded["token_type_ids"][0], default=0) if len(lists) > 1 else 0
    if model.token_types is not None and types >= model.token_types:
        raise UnreadableError(
            f"it gives tokens the type {types}, but the model has {model.token_types} types of tokens"
        )
    if model.positions is not None:
        tokenizer.model_max_length = int(min(longest, model.positions))


@lru_cache(maxsize=8)
def tokenizer_fingerprint(name: str) -> str:
    """Returns the SHA-256 of all that a tokenizer does, without the truncation and padding that it last used."""
    tokenizer = load_tokenizer(name)
    backend = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    special = json.dumps(tokenizer.special_tokens_map, sort_keys=True, default=str)
    return hashlib.sha256((backend.to_str() + special).encode()).hexdigest()


def load_model(
    auto_class: Any, name: str, *, init: Init, attention: str, dtype: Dtype = "float32", **settings: Any
) -> tuple[PreTrainedModel, frozenset[str]]:
    """Loads a model with the head that ``auto_class`` gives it.

    Args:
        auto_class: one of transformers' ``AutoModelFor...``.
        name: folder or name on the Hub.
        init: ``pretrained``, or ``random`` for the architecture alone, with fresh weights.
        attention: ``packed`` (see :mod:`lnsub.models.packing`), or transformers' name of an attention implementation:
            ``sdpa`` (run as :mod:`lnsub.models.attention` says; ``eager`` where the model knows no other), ``eager``,
            ``flash_attention_2``, ...
        dtype: the weights' own dtype, whatever the checkpoint's.
        settings: entries of the configuration to set, such as ``num_labels``.

    Returns:
        The model, and the names of its parameters that did not come from the checkpoint (all of them for ``random``).

    Raises:
        UserError: there is no such model, or none with this head or attention; or weights of the base model are
            missing, of another shape, or not finite. Only the task head, and a pooler, may be missing. Or the model
            with this head has other blocks than the bare one, so that tickets would not be of the same weights.
    """
    config = load_config(name)
    add_missing_head(auto_class, config)
    if not has_class_for(auto_class, config):
        raise UserError(
            f"'{name}' is a model of type {config.model_type}, which has no head for this task"
            f" ({auto_class.__name__}): choose another base model."
        )
    packed = attention == "packed"
    if packed:
        refuse_unpackable(name, config)
    config = copy.deepcopy(config)
    for key, value in settings.items():
        setattr(config, key, value)
    skeleton = _skeleton(name)
    attention = implementation(attention, name, knows_sdpa(auto_class, config))
    with _refusing("model", name):
        if init == "random":
            model = auto_class.from_config(config, attn_implementation=attention, dtype=getattr(torch, dtype))
            missing = {parameter for parameter, _ in model.named_parameters(remove_duplicate=False)}
        else:
            if looks_local(name):
                check_weights(Path(_place(name)), 0 if skeleton is None else skeleton.parameters)
            model, info = auto_class.from_pretrained(
                _place(name),
                **_reading(name),
                config=config,
                attn_implementation=attention,
                dtype=getattr(torch, dtype),
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
            missing = check_loaded(model, name, info)
    if packed:
        pack(model)
    if skeleton is not None:
        check_blocks(model, name, skeleton)
    decoder = has_class_for(AutoModelForCausalLM, config) and not has_class_for(AutoModelForMaskedLM, config)
    if decoder and auto_class is AutoModelForSequenceClassification:
        _set_padding(model, load_tokenizer(name).pad_token_id)
    return model, frozenset(missing)


def _set_padding(model: PreTrainedModel, pad_id: int) -> None:
    """Tells a decoder with a classifier which tokens are padding: it classifies by the last one that is not.

    After it was made: embeddings made with a padding token do not train that one, and it may be one that ends texts.
    """
    for config in (model.config, model.config.get_text_config()):
        config.pad_token_id = pad_id


def refuse_encoder_decoder(name: str, task: str) -> None:
    """Raises a :class:`UserError` if the model has a decoder, for a task that is defined for encoders only."""
    config = load_config(name)
    if config.is_encoder_decoder:
        raise UserError(
            f"'{name}' is an encoder-decoder ({config.model_type}), and {task} is for encoders only: choose an encoder"
            " such as bert-base-multilingual-cased, or the xnli task."
        )


def _reading(name: str) -> dict[str, Any]:
    """How transformers may read: no code from a model ever runs, and a folder here needs no network."""
    return {"trust_remote_code": False, "local_files_only": looks_local(name)}


def _place(name: str) -> str:
    return str(Path(name).expanduser()) if looks_local(name) else name
