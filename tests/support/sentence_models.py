"""A checkpoint that embeds sentences of made-up words, and tickets of it."""

from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModel, BertForMaskedLM

from lnsub.models.prunable import prunable
from lnsub.models.subnet import Subnet
from lnsub.pruning.masks import Mask
from lnsub.tickets.ticket import Ticket
from tests.support.models import save_checkpoint
from tests.support.ticket_factory import provenance

WORDS = [f"w{i}" for i in range(30)]


def make_base(folder: Path, seed: int = 0) -> str:
    """A checkpoint whose prunable weights are large enough to change which sentences are near each other."""
    save_checkpoint(folder, WORDS, seed=seed, dropout=0.5)
    model = BertForMaskedLM.from_pretrained(folder)
    with torch.no_grad():
        for entry in prunable(model).values():
            entry.parameter.mul_(20)
    model.save_pretrained(folder)
    return str(folder)


def ticket_of(base: str, rule: Callable[[torch.Tensor], torch.Tensor], **changes: object) -> Ticket:
    """A ticket of a checkpoint, whose mask is a function of its weights."""
    subnet = Subnet(AutoModel.from_pretrained(base))
    mask = Mask({name: rule(weight.detach()) for name, weight in subnet.weights.items()})
    return Ticket(mask.to_packed(), mask.shapes, provenance(base_fingerprint=subnet.fingerprint(), **changes))
