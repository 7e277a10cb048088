"""Pre-trained models, configurations and tokenizers by name or folder: loaded quietly, refused in one sentence."""

import copy
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from lnsub.common.errors import UserError
from lnsub.models.attention import SDPA
from lnsub.models.packing import PACKED, pack, refuse_unpackable
from lnsub.models.transformers_internals import has_class_for

Init = Literal["pretrained", "random"]


def looks_local(name: str) -> bool:
    """Tells whether ``name`` is a folder here, or is written like one, rather than a name on the Hub."""
    path = Path(name).expanduser()
    return path.is_dir() or path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or "\\" in name


@contextmanager
def quiet() -> Iterator[None]:
    """Silences transformers' progress bars and its report of freshly initialised weights, which is no news here."""
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
    """Turns what transformers raises for a bad name or folder into a :class:`UserError`."""
    path = Path(name).expanduser()
    if looks_local(name):
        if not path.is_dir():
            raise UserError(f"There is no folder '{name}' to load the {what} from.")
        if not (path / "config.json").is_file():
            raise UserError(f"The folder '{name}' holds no Hugging Face model: it has no config.json.")
    try:
        with quiet():
            yield
    except UserError:
        raise
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        if path.is_dir():
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(f"The {what} in '{name}' cannot be loaded: {reason}") from error
        raise UserError(
            f"'{name}' is neither a folder here nor a {what} that could be fetched from the Hugging Face Hub: check the"
            " name and the network, or give a folder."
        ) from error


@lru_cache(maxsize=8)
def load_config(name: str) -> PretrainedConfig:
    """Loads a model's configuration.

    Args:
        name: folder or name on the Hub.

    Raises:
        UserError: there is none.
    """
    with _refusing("model", name):
        return AutoConfig.from_pretrained(_place(name))


@lru_cache(maxsize=8)
def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Loads a model's fast tokenizer; one object per name.

    Args:
        name: folder or name on the Hub.

    Raises:
        UserError: there is none, or it is not a fast one.
    """
    # Only this process tokenises, in batches: on all cores that is 1.5 times as fast on two of them. Set at all, the
    # variable also keeps the library from warning whenever a loader's workers, which never tokenise, are forked.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    load_config(name)  # a name that is no model's at all is refused here, with one round of retries instead of two
    with _refusing("tokenizer", name):
        tokenizer = AutoTokenizer.from_pretrained(_place(name))
    if not tokenizer.is_fast:
        raise UserError(f"The tokenizer of '{name}' has no fast version (tokenizer.json), which lnsub needs.")
    if tokenizer.pad_token_id is None:
        raise UserError(f"The tokenizer of '{name}' has no padding token, which batches need.")
    return tokenizer


@lru_cache(maxsize=8)
def tokenizer_fingerprint(name: str) -> str:
    """Returns the SHA-256 of all that a tokenizer does, without the truncation and padding that were last in use."""
    tokenizer = load_tokenizer(name)
    backend = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    special = json.dumps(tokenizer.special_tokens_map, sort_keys=True, default=str)
    return hashlib.sha256((backend.to_str() + special).encode()).hexdigest()


def load_model(
    auto_class: Any, name: str, *, init: Init, attention: str, **settings: Any
) -> tuple[PreTrainedModel, frozenset[str]]:
    """Loads a model in float32 with the head that ``auto_class`` gives it.

    Args:
        auto_class: one of transformers' ``AutoModelFor...``.
        name: folder or name on the Hub.
        init: ``pretrained``, or ``random`` for the architecture alone, with fresh weights.
        attention: ``packed`` (see :mod:`lnsub.models.packing`), or transformers' name of an attention implementation:
            ``sdpa`` (run as :mod:`lnsub.models.attention` says), ``eager``, ``flash_attention_2``, ...
        settings: entries of the configuration to set, such as ``num_labels``.

    Returns:
        The model, and the names of its parameters that did not come from the checkpoint (all of them for ``random``).

    Raises:
        UserError: there is no such model, or none with this head or attention.
    """
    config = load_config(name)
    if not has_class_for(auto_class, config):
        raise UserError(
            f"'{name}' is a model of type {config.model_type}, which has no head for this task"
            f" ({auto_class.__name__}): choose another base model."
        )
    packed = attention == "packed"
    if packed:
        refuse_unpackable(name, config)
    attention = {"packed": PACKED, "sdpa": SDPA}.get(attention, attention)
    config = copy.deepcopy(config)
    for key, value in settings.items():
        setattr(config, key, value)
    with _refusing("model", name):
        if init == "random":
            model = auto_class.from_config(config, attn_implementation=attention, dtype=torch.float32)
            missing = {parameter for parameter, _ in model.named_parameters(remove_duplicate=False)}
        else:
            model, info = auto_class.from_pretrained(
                _place(name),
                config=config,
                attn_implementation=attention,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
            absent = set(info["missing_keys"]) | {entry[0] for entry in info["mismatched_keys"]}
            missing = absent & {parameter for parameter, _ in model.named_parameters(remove_duplicate=False)}
    if packed:
        pack(model)
    return model, frozenset(missing)


def refuse_encoder_decoder(name: str, task: str) -> None:
    """Raises a :class:`UserError` if the model has a decoder, for a task that is defined for encoders only."""
    config = load_config(name)
    if config.is_encoder_decoder:
        raise UserError(
            f"'{name}' is an encoder-decoder ({config.model_type}), and {task} is for encoders only: choose an encoder"
            " such as bert-base-multilingual-cased, or the xnli task."
        )


def _place(name: str) -> str:
    return str(Path(name).expanduser()) if looks_local(name) else name
