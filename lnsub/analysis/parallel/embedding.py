"""Sentence embeddings from every layer of a base model, dense or under a ticket, without any training."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModel

from lnsub.common.errors import UserError
from lnsub.data.batching import LengthGroupedBatches
from lnsub.models.apply import Fit, apply_ticket, check_fit
from lnsub.models.languages import LANG_IDS, adapter_of, tokenizer_of
from lnsub.models.pretrained import load_model, load_tokenizer
from lnsub.models.subnet import Subnet, Weights
from lnsub.pruning.masks import Mask
from lnsub.tickets.ticket import Ticket

POOLINGS = ("mean", "first")
"""How a sentence's states become one vector: their mean over all tokens but padding, or the first token's."""

MAX_TOKENS = 512
"""Longest sentence in tokens, where neither the tokenizer nor the model sets a lower limit."""


@dataclass(frozen=True)
class Tokens:
    """Tokenised sentences, end to end.

    Attributes:
        values: token ids, special tokens included: int64 [sum of lengths].
        lengths: tokens of each sentence: int64 [sentences].
        adapter: the number of the language's adapters, in a model that has some for each (X-MOD).
    """

    values: NDArray[np.int64]
    lengths: NDArray[np.int64]
    adapter: int | None = None

    def batch(self, rows: NDArray[np.int64], pad_id: int) -> tuple[Tensor, Tensor]:
        """Pads sentences on the right to their longest.

        Args:
            rows: which sentences.
            pad_id: the tokenizer's padding token.

        Returns:
            ``input_ids`` and ``attention_mask``, both int64 [rows, longest].
        """
        lengths = self.lengths[rows]
        starts = np.cumsum(self.lengths)[rows] - lengths
        columns = np.arange(lengths.max())
        inside = columns < lengths[:, None]
        places = np.minimum(starts[:, None] + columns, len(self.values) - 1)
        ids = np.where(inside, self.values[places], pad_id)
        return torch.from_numpy(ids), torch.from_numpy(inside.astype(np.int64))


class SentenceEncoder:
    """A base model that embeds sentences; of an encoder-decoder, its encoder.

    It starts dense, at theta_0. Dropout is off.

    Args:
        base_model: a Hub id or a folder with a Hugging Face checkpoint.
        device: where to compute: ``cpu``, ``cuda``, ``cuda:1``, ...; ``auto`` is the first GPU where there is one.

    Attributes:
        base_model: the name as it was given.
        layers: number of blocks; hidden states are numbered from 0, the embeddings, to this one.
        hidden: width of an embedding.

    Raises:
        UserError: there is no such model or device, or the model has nothing that could be pruned.
    """

    def __init__(self, base_model: str, device: str = "auto") -> None:
        self.base_model = base_model
        self.device = _device(device)
        self._tokenizer = load_tokenizer(base_model)
        # A pooler that the checkpoint lacks is drawn at random; no hidden state depends on it.
        with torch.random.fork_rng(devices=[]):
            model, _ = load_model(AutoModel, base_model, init="pretrained", attention="sdpa")
        self._subnet = Subnet(model.eval())
        self.fingerprint = self._subnet.fingerprint()
        model.to(self.device)
        self._encoder = model.get_encoder() if model.config.is_encoder_decoder else model
        config = model.config.get_text_config() if hasattr(model.config, "text_config") else model.config
        self.layers: int = config.num_hidden_layers
        self.hidden: int = config.hidden_size
        positions = getattr(config, "max_position_embeddings", None) or MAX_TOKENS
        self.max_tokens = min(MAX_TOKENS, self._tokenizer.model_max_length, positions)
        self._theta_0: Weights | None = None

    def check(self, ticket: Ticket) -> Fit:
        """Tells how far a ticket's parameters and the model's agree.

        Raises:
            UserError: the ticket was found in another base model.
        """
        ticket.check_base(self.fingerprint, self.base_model)
        return check_fit(ticket, self._subnet, self.base_model)

    def apply_ticket(self, ticket: Ticket | None) -> None:
        """Makes the model theta_0 under a ticket's mask; None makes it dense again.

        Raises:
            UserError: the ticket was found in another base model.
        """
        if self._theta_0 is None:
            self._theta_0 = self._subnet.snapshot()
        if ticket is None:
            self._subnet.set_mask(Mask.dense(self._subnet.shapes))
        else:
            ticket.check_base(self.fingerprint, self.base_model)
            apply_ticket(ticket, self._subnet, self.base_model)
        self._subnet.rewind(self._theta_0)

    def tokenise(self, sentences: Sequence[str], language: str | None = None) -> Tokens:
        """Tokenises sentences, special tokens included; what is beyond :attr:`max_tokens` is cut off.

        Args:
            sentences: the sentences.
            language: their language, which mBART, NLLB and X-MOD are told; None: whatever they take by themselves.

        Raises:
            UserError: such a model does not know the language.
        """
        tokenizer = self._tokenizer if language is None else tokenizer_of(self.base_model, language)
        lists = tokenizer(list(sentences), truncation=True, max_length=self.max_tokens)["input_ids"]
        values, lengths = np.concatenate(lists).astype(np.int64), np.fromiter(map(len, lists), np.int64, len(lists))
        return Tokens(values, lengths, None if language is None else adapter_of(self.base_model, language))

    @torch.inference_mode()
    def embed(self, tokens: Tokens, layers: Sequence[int], pooling: str = "mean", batch_tokens: int = 8192) -> Tensor:
        """Embeds sentences by the states of some layers.

        Args:
            tokens: from :meth:`tokenise`.
            layers: numbers from 0, the embeddings, to :attr:`layers`.
            pooling: one of :data:`POOLINGS`.
            batch_tokens: the most tokens in a padded batch.

        Returns:
            Embeddings, not normalised: float32 [layers, sentences, hidden], on the CPU.

        Raises:
            UserError: a layer has states of something else than tokens, as where a model shortens its input.
        """
        found = torch.empty(len(layers), len(tokens.lengths), self.hidden)
        batches = LengthGroupedBatches(
            tokens.lengths, tokens_per_batch=batch_tokens, shuffle=False, num_replicas=1, rank=0
        )
        for batch in batches:
            ids, inside = (t.to(self.device) for t in tokens.batch(batch.rows, self._tokenizer.pad_token_id))
            told = (
                {} if tokens.adapter is None else {LANG_IDS: torch.full((len(ids),), tokens.adapter, device=ids.device)}
            )
            states = self._encoder(
                input_ids=ids, attention_mask=inside, output_hidden_states=True, **told
            ).hidden_states
            if any(states[n].shape[:2] != ids.shape for n in layers):
                raise UserError(
                    f"'{self.base_model}' has layers without a state for each token, so sentences cannot be embedded by"
                    " them: choose another base model."
                )
            weights = (inside / inside.sum(dim=1, keepdim=True))[:, None]
            pooled = [states[n][:, 0] if pooling == "first" else (weights @ states[n])[:, 0] for n in layers]
            found[:, batch.rows] = torch.stack(pooled).cpu()
        return found


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        raise UserError(f"There is no device '{name}' here: choose cpu, cuda, cuda:1, ..., or auto.") from error
    return device
