"""Forward passes over a sample, for what hooks sum up: the whole model at once, or one block after the other."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lnsub.common.errors import UserError
from lnsub.models.prunable import base_of, blocks_of, prunable
from lnsub.tasks.task import model_inputs
from lnsub.training.module import SubnetModule
from lnsub.training.samples import SampleBatches, tokens_of

Progress = Callable[[int, int], None]


class Recorder(Protocol):
    """Hooks that sum up what layers are given."""

    def recording(self) -> AbstractContextManager[None]:
        """Puts the hooks on, and takes them off again."""

    def start(self, padding: Sequence[Tensor]) -> None:
        """Prepares for a pass, of which ``padding`` says what are tokens."""


def read_whole(
    module: SubnetModule, batches: SampleBatches, recorder: Recorder, device: torch.device, progress: Progress
) -> None:
    """Passes a sample through the model.

    Args:
        module: the model, on the device.
        batches: the sample.
        recorder: the hooks.
        device: where the model computes.
        progress: called with the examples that are done and all there are.

    """
    with torch.no_grad(), recorder.recording():
        for _, batch in batches.read(device, progress):
            recorder.start(tokens_of(module.model, batch))
            _pass(module, batch)


def read_by_layer(
    module: SubnetModule, batches: SampleBatches, recorder: Recorder, device: torch.device, progress: Progress
) -> None:
    """Passes a sample through the model block by block, with one block's weights on the device at a time.

    First every batch passes through the model with its blocks replaced by ones that note what they are given and hand
    the hidden states on as they are. Then all batches pass through the first block, then all through the next.

    Args:
        module: the model, on the CPU; its weights may be mapped from files.
        batches: the sample.
        recorder: the hooks, which sum up on the device.
        device: where blocks compute.
        progress: see :func:`read_whole`; examples are done as blocks are.

    Raises:
        UserError: what a block is given depends on earlier blocks by more than the hidden states.
    """
    model = module.model
    if model.config.is_encoder_decoder:
        raise UserError(
            f"The decoder of {model.config.model_type} is given what its encoder makes, so --layer-by-layer cannot be "
            "used: leave it out."
        )
    noted: list[_Noted] = []
    with torch.no_grad():
        for _, batch in batches.read(torch.device("cpu")):
            noted.append(_Noted(batch, tokens_of(model, batch)))
            with _replaced(model, _Noting(noted[-1], str(model.config.model_type), device)):
                _pass(module, batch)
        blocks = [call.block for call in noted[0].calls] if noted else []
        with recorder.recording():
            for number, block in enumerate(blocks):
                weights = _weights(block, device)
                for one in noted:
                    one.advance(number, weights, recorder, device)
                progress(batches.examples * (number + 1) // len(blocks), batches.examples)
            _after_blocks(module, noted, recorder, device)


def _pass(module: SubnetModule, batch: dict[str, Tensor]) -> None:
    """Runs what weights can be pruned of: not the task's head, which may be larger than all else."""
    if module.model.config.is_encoder_decoder:
        module(batch)
    else:
        base_of(module.model)(**model_inputs(module.model, batch))


@dataclass
class _Call:
    """A block's call: what it was given beside the hidden states."""

    block: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass
class _Noted:
    """A batch, what blocks are given in it, its hidden states so far, and what blocks return beside those."""

    batch: dict[str, Tensor]
    padding: list[Tensor]
    states: Tensor = field(default_factory=lambda: torch.empty(0))
    calls: list[_Call] = field(default_factory=list)
    rest: tuple[Any, ...] | None = None

    def advance(self, number: int, weights: dict[str, Tensor], recorder: Recorder, device: torch.device) -> None:
        """Passes the hidden states through a block."""
        call = self.calls[number]
        recorder.start(_sent(self.padding, device))
        given = _sent((self.states, *call.args), device)
        found = functional_call(call.block, weights, given, _sent(call.kwargs, device))
        self.states = (found if isinstance(found, Tensor) else found[0]).to("cpu")

    def returned(self, states: Tensor) -> Any:
        """What a block returns whose hidden states are these."""
        return states if self.rest is None else (states, *self.rest)


class _Noting:
    """Takes the place of blocks: notes what each is given, and returns the hidden states as they are."""

    def __init__(self, noted: _Noted, model_type: str, device: torch.device) -> None:
        self._noted = noted
        self._type = model_type
        self._device = device

    def __call__(self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        states, *others = args or (kwargs.pop("hidden_states"),)
        noted = self._noted
        if not noted.calls:
            noted.states = states
            noted.rest = self._beside(block, (states, *others), kwargs)
        # A dictionary or a cache is there for blocks to write to.
        elif states is not noted.states or any(hasattr(value, "update") for value in (*others, *kwargs.values())):
            self._refuse()
        noted.calls.append(_Call(block, tuple(others), kwargs))
        return noted.returned(states)

    def _beside(self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
        """What a block returns beside the hidden states; None where it returns these alone."""
        stand_in = block.__dict__.pop("forward")
        try:
            given = _sent(args, self._device), _sent(kwargs, self._device)
            found = functional_call(block, _weights(block, self._device), *given)
        finally:
            block.__dict__["forward"] = stand_in
        if isinstance(found, Tensor):
            return None
        if any(isinstance(value, Tensor) for value in found[1:]):
            self._refuse()
        return tuple(found[1:])

    def _refuse(self) -> None:
        raise UserError(
            f"The blocks of {self._type} pass on more than the hidden states, so --layer-by-layer cannot be used: "
            "leave it out."
        )


def _after_blocks(module: SubnetModule, noted: Sequence[_Noted], recorder: Recorder, device: torch.device) -> None:
    """Gives what follows the blocks, such as a pooler, the last block's hidden states."""
    inside = {inner for block in blocks_of(base_of(module.model)) for inner in block.modules()}
    outside = [entry.module for entry in prunable(module.model).values() if entry.module not in inside]
    if not outside:
        return
    handles = [layer.to(device).register_forward_pre_hook(lambda _, args: _sent(args, device)) for layer in outside]
    for one in noted:
        recorder.start(_sent(one.padding, device))
        with _replaced(module.model, lambda block, args, kwargs, one=one: one.returned(one.states)):
            _pass(module, one.batch)
    for layer, handle in zip(outside, handles, strict=True):
        handle.remove()
        layer.to("cpu")


@contextmanager
def _replaced(model: nn.Module, stand_in: Callable[..., Any]) -> Iterator[None]:
    """Has a stand-in answer for the model's blocks, which keep their attributes."""
    blocks = blocks_of(base_of(model))
    try:
        for block in blocks:
            block.__dict__["forward"] = _answering(block, stand_in)
        yield
    finally:
        for block in blocks:
            block.__dict__.pop("forward", None)


def _answering(block: nn.Module, stand_in: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: stand_in(block, args, kwargs)


def _weights(block: nn.Module, device: torch.device) -> dict[str, Tensor]:
    """A block's parameters and buffers on a device, without its masks; the block itself stays where it is."""
    tensors = chain(block.named_parameters(), block.named_buffers())
    return {name: tensor.to(device) for name, tensor in tensors if tensor.dtype != torch.bool}


def _sent(value: Any, device: torch.device) -> Any:
    """The same on a device: tensors, also in tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _sent(inner, device) for key, inner in value.items()}
    return type(value)(_sent(inner, device) for inner in value) if type(value) in (tuple, list) else value
