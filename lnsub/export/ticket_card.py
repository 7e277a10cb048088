"""The card of a repository of tickets on the Hugging Face Hub: what is in it, and how to load it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnsub.common.errors import UserError
from lnsub.common.names import looks_local
from lnsub.common.tables import to_markdown
from lnsub.tickets.hub import HubName
from lnsub.tickets.provenance import INHERITED, Provenance

TAGS = ("lnsub", "lottery-ticket", "pruning", "sparsity")
"""The Hub's tags that every such repository has; the tasks of its tickets are others."""

_BEGIN, _END = "<!-- lnsub: begin -->", "<!-- lnsub: end -->"
_LANGUAGE = re.compile("[a-z]{2,3}")  # what the Hub takes for one


@dataclass(frozen=True)
class Listed:
    """A ticket of a repository, as its card lists it."""

    path: str
    """The file's path in the repository."""
    provenance: Provenance
    """Where it comes from."""
    checksum: str
    """SHA-256 (hex) of its masks."""


def ticket_card(
    repository: str, revision: str | None, tickets: Sequence[Listed], *, license: str | None, earlier: str | None
) -> str:
    """Writes a card, or the part of an earlier one that lists the tickets.

    Args:
        repository: ``ORG/NAME``.
        revision: the branch that the card is on; None for the default one.
        tickets: all tickets of the repository, of one base model; at least one.
        license: the Hub's name of a licence; None keeps that of the earlier card.
        earlier: the repository's README.md; None where it has none. Its other text and metadata stay.

    Returns:
        Markdown with the Hub's YAML header; the same for the same repository.

    Raises:
        UserError: the earlier card's header cannot be read.
    """
    from huggingface_hub import RepoCard
    from yaml import YAMLError

    section = f"{_BEGIN}\n{_body(repository, revision, tickets)}\n{_END}"
    text = f"---\n{{}}\n---\n\n# {repository.split('/')[1]}\n\n{section}\n" if earlier is None else earlier
    try:
        card = RepoCard(text)
    except (ValueError, YAMLError) as error:
        raise UserError(
            f"The header of README.md in {repository} on the Hugging Face Hub is not the YAML of a model card: correct "
            "it there, and push again"
        ) from error
    facts = _facts(tickets) | ({} if license is None else {"license": license})
    for name, value in facts.items():
        had = card.data.get(name, [])
        if name == "tags":  # those that someone else has added are kept
            value = list(dict.fromkeys([*(had if isinstance(had, list) else [had]), *value]))
        card.data[name] = value
    if earlier is not None:
        before, begin, rest = card.text.partition(_BEGIN)
        _, end, after = rest.partition(_END)
        card.text = f"{before}{section}{after}" if begin and end else f"{card.text.rstrip()}\n\n{section}\n"
    return str(card)


def _facts(tickets: Sequence[Listed]) -> dict[str, Any]:
    """The header's fields that follow from the tickets."""
    all_of = [ticket.provenance for ticket in tickets]
    languages = sorted({part for p in all_of for part in p.language.split("+") if _LANGUAGE.fullmatch(part)})
    found_on = sorted({part for p in all_of for part in p.task.split("+") if part != INHERITED})
    facts: dict[str, Any] = {"library_name": "lnsub"}
    if not looks_local(all_of[0].base_model):
        facts["base_model"] = all_of[0].base_model
    if languages:
        facts["language"] = languages
    return facts | {"tags": [*TAGS, *found_on]}


def _body(repository: str, revision: str | None, tickets: Sequence[Listed]) -> str:
    first = min(tickets, key=lambda ticket: ticket.path)
    base = _base(first.provenance)
    one = HubName(repository, revision, first.path)
    every = HubName(repository, revision, "tickets/**/*.safetensors")
    at = "" if revision is None else f" --revision {revision}"
    return f"""Tickets of the base model `{base}`, made with lnsub by the method of Foroutan et al. (2022), "Discovering
Language-neutral Sub-networks in Multilingual Language Models". Each file says which of the prunable weights (the linear
layers inside the encoder's and decoder's blocks, and the pooler's) a sub-network keeps, and where that sub-network was
found; no weights are in it. The base model's fingerprint, SHA-256 over these weights, is
`{first.provenance.base_fingerprint}`.

## Tickets

{_table(tickets)}

The checksum is the start of the SHA-256 over a ticket's masks.

## How to load them

A file's name stands wherever lnsub takes a ticket:

```bash
lnsub ticket info {one}
lnsub overlap '{every}'
lnsub fit --config CONFIG --model.ticket={one}
lnsub ticket pull {repository}{at} --output DIR
```

In Python, as boolean tensors by the names of the base model's parameters:

```python
from lnsub import Mask, Ticket

ticket = Ticket.load("{one}")
mask = Mask.from_packed(ticket.masks, ticket.shapes)
```"""


def _table(tickets: Sequence[Listed]) -> str:
    head = ["task", "language", "seed", "sparsity", "score", "metric", "checksum", "file"]
    rows = []
    for ticket in sorted(tickets, key=_order):
        p = ticket.provenance
        cells = [p.task, p.language, str(p.seed) if p.seed >= 0 else "", f"{p.sparsity:g}", p.score, p.metric]
        rows.append([*cells, f"`{ticket.checksum[:12]}`", f"[{Path(ticket.path).name}]({ticket.path})"])
    return to_markdown(head, rows)


def _order(ticket: Listed) -> tuple[object, ...]:
    p = ticket.provenance
    return (p.task, p.language, p.seed, p.sparsity, ticket.path)


def _base(provenance: Provenance) -> str:
    """The base model's name; of a folder, only the last part."""
    name = provenance.base_model
    return Path(name).name if looks_local(name) else name
