"""A tiny BERT, text in three languages, and tickets of weights and of neurons, to be taken away."""

from pathlib import Path

import numpy as np
import torch
from transformers import BertForMaskedLM

from lnsub.models.subnet import Subnet
from lnsub.models.unit_maps import units_of
from lnsub.tickets.ticket import Ticket
from tests.support.data_makers import write_rows
from tests.support.models import save_checkpoint
from tests.support.ticket_factory import ticket

LANGUAGES = ("fr", "ru", "ur")
WORDS = {language: [f"{language}{number}" for number in range(12)] for language in LANGUAGES}
CONFIG = """trainer: {accelerator: cpu, logger: false}
model: {base_model: %s}
data: {class_path: lnsub.WikipediaMLM, init_args: {dataset: %s, max_length: 16, mlm_probability: 0.3}}
"""


class AblationWorld:
    """Where everything is: a base model, its data, a configuration of MLM and tickets.

    Args:
        path: an empty folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.base = save_checkpoint(path / "base", [word for words in WORDS.values() for word in words])
        for place, language in enumerate(LANGUAGES):
            rng = np.random.default_rng(place)
            for split, count in (("train", 6), ("validation", 4)):
                texts = [" ".join(rng.choice(WORDS[language], 30)) for _ in range(count)]
                write_rows(path / "data" / language / f"{split}.parquet", {"text": texts})
        self.config = path / "mlm.yaml"
        self.config.write_text(CONFIG % (self.base, path / "data"))
        self.model = BertForMaskedLM.from_pretrained(self.base).eval()
        subnet = Subnet(BertForMaskedLM.from_pretrained(self.base))
        self.shapes, self.fingerprint = subnet.shapes, subnet.fingerprint()

    def provenance(self, language: str, **changes: object) -> dict[str, object]:
        """What tickets of this model say of themselves."""
        named = {"base_model": str(self.base), "base_fingerprint": self.fingerprint, "task": "mlm"}
        return named | {"language": language} | changes

    def weights(self, language: str, seed: int = 0, density: float = 0.1) -> Ticket:
        """A ticket of single weights."""
        rng = np.random.default_rng([seed, *map(ord, language)])
        masks = {name: rng.random(shape) < density for name, shape in self.shapes.items()}
        return ticket(masks, **self.provenance(language, seed=seed, sparsity=1 - density))

    def neurons(self, language: str, keep: dict[str, list[int]]) -> Ticket:
        """A ticket of feed-forward neurons, those to keep by group."""
        units = units_of(BertForMaskedLM.from_pretrained(self.base), "neuron")
        assert units is not None
        kept = {name: np.isin(np.arange(count), keep.get(name, [])) for name, (count,) in units.shapes.items()}
        masks = units.expanded(kept, self.shapes)
        named = {"granularity": "neuron", "units": units.to_json(), "score": "lape", "sparsity": 0.9}
        return ticket(masks, **self.provenance(language, **named))

    def saved(self, *tickets: Ticket) -> list[str]:
        """Writes tickets; returns their files."""
        return [
            str(one.save(self.path / "tickets" / f"{number}-{one.checksum[:8]}.safetensors"))
            for number, one in enumerate(tickets)
        ]

    def command(self, tickets: list[str], output: Path, *more: str) -> list[str]:
        """The command line of an ablation."""
        named = ["--tickets", *tickets, f"--languages={','.join(LANGUAGES)}", f"--output={output}"]
        return ["ablate", f"--config={self.config}", *named, *more]


def loss_of(model: torch.nn.Module, batches: list[dict[str, torch.Tensor]]) -> float:
    """The mean cross-entropy at the masked positions, by the whole logits."""
    nats, count = 0.0, 0
    for batch in batches:
        with torch.no_grad():
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        picked = torch.log_softmax(logits.flatten(0, 1).double(), -1)[batch["positions"]]
        counted = batch["labels"] >= 0
        nats -= float(picked[counted].gather(1, batch["labels"][counted][:, None]).sum())
        count += int(counted.sum())
    return nats / count
