"""Converts a pre-training checkpoint to the embedded model, in float16 safetensors.

``python -m tools.demo.make_model --checkpoint RUN/checkpoints/last.ckpt --output lnsub/demo/model``
"""

import argparse
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForMaskedLM


def make_model(checkpoint: Path, folder: Path) -> int:
    """Writes ``model.safetensors`` into a folder that holds ``config.json`` and the tokenizer.

    Args:
        checkpoint: of a fit of masked language modelling.
        folder: the model's folder.

    Returns:
        The parameters written.
    """
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    model = AutoModelForMaskedLM.from_config(AutoConfig.from_pretrained(folder))
    weights = {n.removeprefix("model."): t for n, t in state.items() if n.startswith("model.") and "_mask" not in n}
    model.load_state_dict(weights)
    model.half().save_pretrained(folder)
    return sum(p.numel() for p in model.parameters())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    make_model(options.checkpoint, options.output)
