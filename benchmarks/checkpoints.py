"""What a checkpoint costs the training thread: written in place, or copied and written in the background.

The state has mBERT's size: 178 million weights, the two moments of AdamW and the masks, 2.2 GB. Written in place is how
it was done before; both ways write and sync the same file, and keep the one before it.
"""

import itertools
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness import MB, Case, Row, at_most, interleave, row_of
from benchmarks.mbert import MBERT, TOY, shapes_of
from lnsub.runs.folder import RunFolder
from lnsub.training.background import CheckpointWriter
from lnsub.training.checkpoint_files import partial_of, rotate, write_checkpoint
from lnsub.training.checkpoints import EVERY_MINUTES

IN_PLACE, COPIED = "training waits: written in place", "training waits: copied, written in the background"
ALONE, AMID = "a training step", "a training step while a checkpoint is written"


def run(quick: bool, repeats: int) -> list[Row]:
    """Times both ways turn by turn, and a step with and without a write; asserts that both write the same."""
    state = _state(quick)
    size = sum(tensor.nbytes for part in state.values() for tensor in part.values()) / MB
    step = _step(32 if quick else 512)
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place))
        writer = CheckpointWriter(folder)
        writer.start(state)
        writer.wait()
        _in_place(folder, state)
        _assert_equal(folder, state)
        cases = [
            Case(IN_PLACE, partial(_in_place, folder, state), before=writer.wait, warm=False),
            Case(COPIED, partial(writer.start, state), before=writer.wait, warm=False),
            Case(ALONE, step, before=writer.wait),
            Case(AMID, step, before=partial(writer.start, state), warm=False),
        ]
        timings = interleave(cases, repeats)
        writer.wait()
    share = 100 * timings[COPIED].median / (60 * EVERY_MINUTES)
    claims = [at_most(share, 0.5, f"% of {EVERY_MINUTES:g} minutes")]
    return [
        row_of(IN_PLACE, timings, IN_PLACE, {"MB written": size}),
        row_of(COPIED, timings, IN_PLACE, {"MB of memory until it is written": size}, claims),
        row_of(ALONE, timings, ALONE),
        row_of(AMID, timings, ALONE),
    ]


def _in_place(folder: RunFolder, state: dict[str, dict[str, Tensor]]) -> None:
    write_checkpoint(state, partial_of(folder))
    rotate(folder)


def _state(quick: bool) -> dict[str, dict[str, Tensor]]:
    """Weights, moments and masks, of random values."""
    layers, width = TOY if quick else MBERT
    shapes = shapes_of(layers, width)
    tables = {"embeddings.word_embeddings.weight": (1000 if quick else 119_547, width)}
    generator = torch.Generator().manual_seed(0)

    def drawn() -> dict[str, Tensor]:
        return {name: torch.randn(shape, generator=generator) for name, shape in {**shapes, **tables}.items()}

    masks = {name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()}
    return {"weights": drawn(), "exp_avg": drawn(), "exp_avg_sq": drawn(), "masks": masks}


def _step(tokens: int) -> Any:
    """A training step of two feed-forward layers of mBERT's width."""
    width = MBERT[1]
    model = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    inputs = torch.randn(tokens, width)

    def step() -> None:
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()

    return step


def _assert_equal(folder: RunFolder, state: dict[str, dict[str, Tensor]]) -> None:
    """Asserts that both files hold the state."""
    for path, part in itertools.product((folder.checkpoint, folder.previous_checkpoint), state):
        found = torch.load(path, mmap=True, weights_only=True)[part]
        assert found.keys() == state[part].keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in state[part].items())
