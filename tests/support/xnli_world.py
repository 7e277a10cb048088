"""A tiny base model, XNLI data and the configuration of an IMP run on them, for tests that start whole processes."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.models import save_checkpoint

WORDS = [f"w{i}" for i in range(20)]


def make_xnli_world(
    root: Path, languages: Iterable[str], rows: Mapping[str, int], *, seed: int, batch_size: int
) -> dict[str, Any]:
    """Writes ``model`` (with dropout) and ``data`` below ``root``, ``rows`` by split; returns the configuration."""
    save_checkpoint(root / "model", WORDS, dropout=0.1)
    for language in languages:
        for split, count in rows.items():
            rng = np.random.default_rng([ord(language[0]), count])
            path = root / "data" / language / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w") as file:
                for _ in range(count):
                    words = [WORDS[i] for i in rng.integers(0, len(WORDS), 5)]
                    row = {"premise": " ".join(words), "hypothesis": words[0], "label": int(rng.integers(3))}
                    file.write(json.dumps(row) + "\n")
    return {
        "seed_everything": seed,
        "model": {"base_model": str(root / "model"), "learning_rate": 0.01},
        "data": {
            "class_path": "lnsub.XNLI",
            "init_args": {
                "language": "aa",
                "dataset": str(root / "data"),
                "batch_size": batch_size,
                "max_length": 16,
            },
        },
        "trainer": {
            "max_epochs": 2,
            "accelerator": "cpu",
            "gradient_clip_val": 1.0,
            "enable_progress_bar": False,
            "callbacks": [{"class_path": "lnsub.IMPCallback", "init_args": {"sparsities": [0.3, 0.6]}}],
        },
    }
