"""Text in three languages and tiny models for tickets without training, and `lnsub prune` of them."""

import json
from pathlib import Path

from lnsub.cli.main import main
from lnsub.runs.folder import RunFolder
from lnsub.tickets.ticket import Ticket
from tests.support.data_makers import WORDS

LANGUAGES = ("en", "fr", "ur")


def write_text(folder: Path) -> Path:
    """Text, whose words occur in each language at other rates."""
    for k, language in enumerate(LANGUAGES):
        path = folder / language / "train.jsonl"
        path.parent.mkdir(parents=True)
        with path.open("w") as file:
            for i in range(40):
                words = [WORDS[(i * (k + 1) + j * j) % (5 + 4 * k)] for j in range(6 + (i + k) % 9)]
                file.write(json.dumps({"text": " ".join(words)}) + "\n")
    return folder


def config_of(folder: Path, task: str, base: str, text: Path) -> Path:
    """A configuration of `lnsub fit` on the CPU, with IMP."""
    path = folder / f"{task}.yaml"
    path.write_text(
        f"trainer: {{accelerator: cpu, max_epochs: 1, callbacks: [{{class_path: lnsub.IMPCallback}}]}}\n"
        f"model: {{base_model: {base}}}\n"
        f"data: {{class_path: lnsub.{task}, init_args: {{dataset: {text}, max_length: 12, batch_size: 4}}}}\n"
    )
    return path


def prune(config: Path, output: Path, score: str, *options: str, languages: str = "en,fr,ur") -> int:
    """Runs `lnsub prune` with seven examples."""
    given = ["--config", str(config), "--output", str(output), "--score", score, "--languages", languages]
    return main(["prune", *given, "--examples", "7", *options])


def ticket(output: Path, task: str, language: str, seed: int, sparsity: float) -> Ticket:
    return Ticket.load(RunFolder.of(output, task, language, seed).ticket(sparsity))
