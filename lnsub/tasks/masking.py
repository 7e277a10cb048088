"""From blocks of text to masked ones, the inputs of masked language modelling.

The masking is that of BERT (Devlin et al., 2019, https://arxiv.org/abs/1810.04805, section 3.1 and appendix A.1).
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from lnsub.data.batching import IGNORED, BatchRows, Collator, ragged


@dataclass(frozen=True, kw_only=True)
class MaskingCollator(Collator):
    """Masks blocks as BERT does and turns them into a batch of int64 tensors.

    In each block ``max(1, round(probability * n))`` of the n tokens that are not special are chosen. Each of those
    becomes the mask token with probability 0.8, a random token with 0.1, and stays as it is with 0.1. The draw is a
    function of (seed, epoch, number of the block) alone, so it is the same in any batch, process or worker.

    The batch has ``input_ids`` and ``attention_mask`` [batch, length], ``index`` [batch], ``positions`` [n], the
    chosen positions in the flattened [batch * length], and ``labels`` [n], the original tokens. n depends on
    batch and length alone, so that ``torch.compile`` meets few shapes: surplus entries are position 0 with the label
    :data:`~lnsub.data.batching.IGNORED`.

    Args:
        mask_id: the mask token.
        vocabulary: size of the vocabulary that random tokens are drawn from.
        special: tokens that are never chosen.
        probability: share of tokens to choose.
        seed: seed of the masks.
        fixed: use the masks of epoch 0 in every epoch.
    """

    mask_id: int
    vocabulary: int
    special: tuple[int, ...]
    probability: float
    seed: int
    fixed: bool

    def __call__(self, columns: pa.Table, batch: BatchRows) -> dict[str, Tensor]:
        """Returns the batch made of ``columns``, the blocks that ``batch`` names."""
        ids, lengths = ragged(columns["input_ids"])
        ids = ids.astype(np.int64)
        masked = ids.copy()
        ends = np.cumsum(lengths)
        maskable = ~np.isin(ids, self.special)
        epoch = 0 if self.fixed else batch.epoch
        chosen = []
        for number, end, length in zip(batch.rows.tolist(), ends.tolist(), lengths.tolist(), strict=True):
            start = end - length
            positions = start + np.flatnonzero(maskable[start:end])
            picked, masked_tokens = self._mask(ids, positions, np.random.default_rng([self.seed, epoch, number]))
            masked[picked] = masked_tokens
            chosen.append(picked)
        input_ids = self.pad(masked, lengths, self.pad_id)
        width = input_ids.shape[1]
        rows = np.repeat(np.arange(len(lengths)), [len(picked) for picked in chosen])
        flat = np.concatenate(chosen)
        positions = np.zeros(len(lengths) * self._count(width), dtype=np.int64)
        positions[: len(flat)] = rows * width + flat - (ends - lengths)[rows]
        labels = np.full(len(positions), IGNORED, dtype=np.int64)
        labels[: len(flat)] = ids[flat]
        return {
            "input_ids": input_ids,
            "attention_mask": self.pad(np.ones_like(ids), lengths, 0),
            "index": torch.from_numpy(batch.rows.astype(np.int64)),
            "positions": torch.from_numpy(positions),
            "labels": torch.from_numpy(labels),
        }

    def _count(self, maskable: int) -> int:
        return max(1, round(self.probability * maskable))

    def _mask(
        self, ids: NDArray[np.int64], positions: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Chooses among the positions of one block; returns the chosen, in order, and the tokens to put there."""
        count = self._count(len(positions))
        picked = np.sort(rng.permutation(positions)[:count])
        action = rng.random(count)
        random_tokens = rng.integers(self.vocabulary, size=count)
        tokens = np.where(action < 0.8, self.mask_id, np.where(action < 0.9, random_tokens, ids[picked]))
        return picked, tokens
