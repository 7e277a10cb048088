"""A model without memory: what a configuration makes, known before a byte is taken for it."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from transformers import AutoModel, PretrainedConfig, PreTrainedModel

from lnsub.common.plain_data import UnreadableError
from lnsub.models.prunable import Coverage, coverage, prunable
from lnsub.models.transformers_internals import has_class_for

MOST_TENSORS = 50_000
"""The most parameters that a model may consist of, each one a tensor: Qwen's 128 experts in 48 layers are 19,000."""


@dataclass(frozen=True)
class Skeleton:
    """What a model's shapes say of it.

    Attributes:
        parameters: how many numbers it consists of, without a task head.
        vocabulary: how many tokens it has embeddings for.
        positions: the longest input that it has embeddings of positions for; None: it has none.
        token_types: how many types of tokens it has embeddings for; None: it has none.
        blocks: the names of what can be pruned of it, without the pooler.
        coverage: how much of its blocks that is.
    """

    parameters: int
    vocabulary: int
    positions: int | None
    token_types: int | None
    blocks: frozenset[str]
    coverage: Coverage

    @classmethod
    def of(cls, config: PretrainedConfig) -> "Skeleton | None":
        """Makes a configuration's bare model without memory, on torch's meta device.

        Returns:
            What it is like; None where transformers knows no bare model of this type.

        Raises:
            UnreadableError: it would not fit into this machine; it has no layers, no vocabulary or no positions; or
                its blocks are of other layers than can be pruned.
            UserError: nothing of it can be pruned.
            Exception: whatever its code raises, or torch, for sizes and names that do not fit.
        """
        if not has_class_for(AutoModel, config):
            return None
        with torch.device("meta"), torch.random.fork_rng(devices=[]), _bounded(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tensors without elements, which are refused below where they matter
            model = AutoModel.from_config(config, attn_implementation="eager", dtype=torch.float32)
        blocks = frozenset(name for name in prunable(model) if not name.startswith("pooler."))
        covered = coverage(model)
        if not blocks and covered.left_out:
            raise UnreadableError(
                f"of a model of type {config.model_type} nothing but the pooler can be pruned, as its blocks have"
                f" other layers than linear ones, such as {covered.left_out[0]}"
            )
        if not blocks:
            raise UnreadableError("its configuration asks for no layers")
        tables = {name: module for name, module in model.named_modules() if isinstance(module, nn.Embedding)}
        found = cls(
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            vocabulary=_vocabulary(model),
            positions=_size(tables, "position_embeddings", "char_position_embeddings", "wpe", "embed_positions"),
            token_types=_size(tables, "token_type_embeddings"),
            blocks=blocks,
            coverage=covered,
        )
        if found.vocabulary < 1 or (found.positions is not None and found.positions < 1):
            what = "tokens" if found.vocabulary < 1 else "positions"
            raise UnreadableError(f"its configuration leaves no room for any {what}")
        return found


def _vocabulary(model: PreTrainedModel) -> int:
    """How many tokens a model has embeddings for."""
    try:
        tokens = model.get_input_embeddings()
    except NotImplementedError:  # CANINE's, which hashes characters
        return sys.maxunicode + 1
    return tokens.num_embeddings if isinstance(tokens, nn.Embedding) else int(model.config.vocab_size)


def _size(tables: dict[str, nn.Embedding], *names: str) -> int | None:
    """How many entries embeddings of some name have, without the first ones: RoBERTa's for padding, BART's unused."""
    found = [table for name, table in tables.items() if name.rpartition(".")[2] in names]
    unused = (getattr(t, "offset", 0 if t.padding_idx is None else t.padding_idx + 1) for t in found)
    return min((t.num_embeddings - first for t, first in zip(found, unused, strict=True)), default=None)


@contextmanager
def _bounded() -> Iterator[None]:
    """Stops the making of a model that has too many parameters, whatever makes them so many."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    tensors = numbers = 0

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal tensors, numbers
        if parameter is not None:
            tensors, numbers = tensors + 1, numbers + parameter.numel()
        if tensors > MOST_TENSORS:
            raise UnreadableError(f"its configuration asks for more than {MOST_TENSORS:,} matrices and vectors")
        if 4 * numbers > memory:
            raise UnreadableError(
                f"its configuration asks for more than {numbers:,} parameters in float32, and this machine's memory has"
                f" {memory / 1e9:.0f} GB"
            )

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()
