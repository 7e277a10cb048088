"""What a step does with mBERT's embeddings: with all of their rows, or with those that the data use."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import nn
from transformers import BertConfig, BertModel

from benchmarks.harness import MB, Case, Row, at_most, interleave, memory_of
from lnsub.models.vocabulary import Vocabulary

WHOLE, IN_USE = "all 119,547 rows", "22,000 rows in use"
"""An estimate of how many tokens the 392,702 French pairs of XNLI have under mBERT's tokenizer."""


def run(quick: bool, repeats: int) -> list[Row]:
    """Times the lookup of a batch, its backward pass, clipping and AdamW, with the embeddings alone."""
    trainings = {name: training(name == IN_USE, quick) for name in (WHOLE, IN_USE)}
    for _ in range(3):
        assert len({step() for step in trainings.values()}) == 1  # the same loss, bit for bit
    timings = interleave([Case(name, step) for name, step in trainings.items()], repeats)
    trainings.clear()
    peaks = {name: 1 if quick else memory_of(training, name == IN_USE, quick).peak for name in timings}
    ratio = timings[IN_USE].ratio(timings[WHOLE])
    claims = [at_most(ratio, 1 / 3, "x the time")]
    return [
        Row(WHOLE, timings[WHOLE], values={"MB at its peak": peaks[WHOLE] / MB}),
        Row(IN_USE, timings[IN_USE], WHOLE, ratio, {"MB at its peak": peaks[IN_USE] / MB}, claims),
    ]


def training(narrow: bool, quick: bool) -> Callable[[], float]:
    """A model whose every parameter but the embeddings is negligible, after its first step; returns the next ones."""
    torch.manual_seed(0)
    size, width, used = (1_000, 32, 184) if quick else (119_547, 768, 22_000)
    config = BertConfig(
        vocab_size=size, hidden_size=width, num_hidden_layers=0, num_attention_heads=1, hidden_dropout_prob=0
    )
    model = BertModel(config, add_pooling_layer=False)
    tokens = np.sort(np.random.default_rng(0).choice(size, used, replace=False))
    if narrow:
        Vocabulary(model).narrow(tokens)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.0, fused=True)
    step = partial(_step, model, optimizer, torch.from_numpy(tokens[: 32 * 48].reshape(-1, 23 if quick else 48)))
    step()
    return step


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, ids: torch.Tensor) -> float:
    loss = model(input_ids=ids).last_hidden_state[..., 0].mean()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())
