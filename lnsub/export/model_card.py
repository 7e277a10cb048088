"""The model card of an exported sub-network: what it is, its provenance, how to load it, what its zeros are worth."""

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from lnsub.common.names import looks_local
from lnsub.common.tables import to_markdown
from lnsub.export.shrinking import Shrunk
from lnsub.runs.records import Record
from lnsub.tickets.density import density_by
from lnsub.tickets.provenance import INHERITED
from lnsub.tickets.ticket import Ticket


@dataclass(frozen=True)
class Training:
    """What is known of fine-tuned weights."""

    checkpoint: str
    """Name of the checkpoint file."""
    step: int
    """The optimizer step that they are of."""
    records: Sequence[Record]
    """What was measured with them; may be empty."""


@dataclass(frozen=True)
class Card:
    """What a model card says."""

    name: str
    """Name of the folder, or of the repository that it is meant for."""
    auto_class: str
    """The ``AutoModelFor...`` that loads it."""
    pipeline: str
    """The Hub's name of the task."""
    base_model: str
    """Name or folder of the base model; of a folder only the last part is shown."""
    ticket: Ticket
    """The ticket whose mask is on the weights."""
    ticket_file: str
    """Name of its file in the folder."""
    weights: Mapping[str, int]
    """How many weights each prunable parameter of the model has."""
    kept: Mapping[str, int]
    """How many of them the mask keeps; all of a parameter that the ticket lacks."""
    zeros: int
    """How many of all these weights are 0, pruned or not."""
    training: Training | None
    """None for rewound weights."""
    shrunk: Shrunk | None = None
    """The smaller model that was written; None where pruned weights are stored as zeros."""
    added_head: bool = False
    """Whether transformers lacks the model's class, which lnsub then adds."""


def model_card(card: Card) -> str:
    """Writes a model card.

    Args:
        card: what it says.

    Returns:
        Markdown with the Hub's YAML header.
    """
    base = Path(card.base_model).name if looks_local(card.base_model) else card.base_model
    total, kept = sum(card.weights.values()), sum(card.kept.values())
    return f"""{_head(card)}
# {card.name}

A sub-network of `{base}`: of its {total:,} prunable weights (the linear layers inside the encoder's and decoder's
blocks, and the pooler's) {total - kept:,} are pruned, a sparsity of {1 - kept / total:.4f}.{_differences(card)}

{_weights(card, base)}

## How to load it

{_loading(card)}

## The ticket

A ticket, which is a mask with its provenance, says which weights are kept. This one is in `{card.ticket_file}`. It was
found with lnsub, by the method of Foroutan et al. (2022), "Discovering Language-neutral Sub-networks in Multilingual
Language Models".

{_provenance(card.ticket, base)}

## Sparsity by layer and kind of matrix

{_sparsities(card)}

{_worth(card)}
"""


def _worth(card: Card) -> str:
    if card.shrunk is not None:
        sizes = ", ".join(f"`{name}` {new:,} instead of {old:,}" for name, (new, old) in card.shrunk.sizes.items())
        here, there = card.shrunk.parameters
        return f"""## What was cut out

- The pruned {card.shrunk.granularity}s are not in this model: {sizes}. It has {here:,} parameters instead of {there:,},
  and gives the outputs of the whole model under the mask. Where layers keep different numbers, the rest are zeros.
- `{card.ticket_file}` is a mask on `{Path(card.base_model).name}`, not on this smaller model."""
    return f"""## What the zeros are worth

- Pruned weights are stored as zeros in float32. By themselves they save no memory and no time: the file and the model
  are as large as the dense one.{_other_zeros(card)}
- Fine-tuning changes the zeros. To stay within the sub-network, mask the gradients, or give `{card.ticket_file}` to
  `lnsub fit` as `model.ticket`."""


def _loading(card: Card) -> str:
    """The code that loads the model, with what transformers needs to be told where it lacks the model's class."""
    config, told, why = "", "", ""
    if card.added_head:
        why = f"transformers has no {card.auto_class} for this type of model: lnsub adds it (`pip install lnsub`).\n\n"
        config = "from lnsub.models.heads import add_missing_head\n"
        told = f'add_missing_head({card.auto_class}, AutoConfig.from_pretrained("{card.name}"))\n'
    names = ["AutoConfig"] * card.added_head + ["AutoTokenizer", card.auto_class]
    return f"""{why}```python
{config}from transformers import {", ".join(names)}

{told}model = {card.auto_class}.from_pretrained("{card.name}")
tokenizer = AutoTokenizer.from_pretrained("{card.name}")
```"""


def _head(card: Card) -> str:
    """The Hub's YAML; JSON strings are YAML strings, so that a code like ``no`` stays a word."""
    languages = card.ticket.provenance.language.split("+")
    lines = ["library_name: transformers", f"pipeline_tag: {card.pipeline}"]
    if not looks_local(card.base_model):
        lines.append(f"base_model: {json.dumps(card.base_model)}")
    if languages != [INHERITED]:
        lines.append(f"language: {json.dumps(languages)}")
    lines.append("tags: [lnsub, pruning, sparsity, lottery-ticket]")
    return "\n".join(["---", *lines, "---"])


def _differences(card: Card) -> str:
    """The parameters that only the ticket or only this model has, for which their sparsities differ."""
    only_ticket = _listed(card.ticket.masks.keys() - card.weights.keys())
    only_model = _listed(card.weights.keys() - card.ticket.masks.keys())
    text = f" The ticket's {only_ticket} is not in this model." if only_ticket else ""
    return text + (f" {only_model} is not in the ticket, and dense." if only_model else "")


def _listed(names: Set[str]) -> str:
    first = sorted(names)[:3]
    return ", ".join(first) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _weights(card: Card, base: str) -> str:
    if card.training is None:
        return (
            f"The others have the values of `{base}` itself (rewound): nothing here is fine-tuned. The task head, and "
            "whatever else that model lacks, has random initial values and needs training."
        )
    text = f"The others are fine-tuned: they are those of `{card.training.checkpoint}` at step {card.training.step:,}."
    return " ".join([text, *(_measured(record) for record in card.training.records)])


def _measured(record: Record) -> str:
    return f"On {record.target}, {record.split}: {record.metric} {record.value:.4f} (n = {record.n:,})."


def _provenance(ticket: Ticket, base: str) -> str:
    facts = ticket.provenance.to_metadata() | {"base_model": base}
    rows = [(name, text) for name, text in facts.items() if text and name != "units"] + [("checksum", ticket.checksum)]
    return to_markdown(["field", "value"], [[name, f"`{value}`"] for name, value in rows])


def _sparsities(card: Card) -> str:
    cells: dict[str, dict[str, str]] = {}
    for by in (("layer", "kind"), ("layer",), ("kind",), ()):
        for row in density_by(card.kept, card.weights, by):
            cells.setdefault(row.get("layer", "all"), {})[row.get("kind", "all")] = f"{1 - row['density']:.4f}"
    kinds = list(cells["all"])
    rows = [[layer, *(row.get(kind, "") for kind in kinds)] for layer, row in cells.items()]
    return to_markdown(["layer", *kinds], rows)


def _other_zeros(card: Card) -> str:
    others = card.zeros - (sum(card.weights.values()) - sum(card.kept.values()))
    if not others:
        return ""
    return f"\n- {others:,} kept weights are 0 as well, so zeros do not show what is pruned: `{card.ticket_file}` does."
