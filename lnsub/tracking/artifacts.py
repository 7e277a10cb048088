"""Base models and tickets as W&B artifacts, named so that the same content is always the same artifact.

A run of IMP uses its base model and makes tickets; a transfer uses both: W&B draws the lineage from that. Every
artifact is made from what is at hand, offline too, and the server finds the version with the same content.
"""

import json
import re
from pathlib import Path
from typing import Any

from lnsub.runs.folder import RunFolder, ticket_filename
from lnsub.tickets.ticket import Ticket

LONGEST = 120
"""W&B's names have at most 128 characters."""


def base_artifact(base_model: str, fingerprint: str, folder: RunFolder) -> Any:
    """The base model: its name and fingerprint, not its weights.

    Args:
        base_model: a Hub id, or a folder.
        fingerprint: SHA-256 over the prunable theta_0 (hex).
        folder: the run's folder; the file of the artifact is kept there.
    """
    import wandb

    name = Path(base_model).name if Path(base_model).exists() else base_model
    facts = {"base_model": name, "fingerprint": fingerprint}
    artifact = wandb.Artifact(_name(f"{name}-{fingerprint[:8]}"), type="base-model", metadata=facts)
    # In the run's folder, and not where the client keeps copies, which the machine that syncs may not see.
    path = folder.path / "wandb" / "base-model.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    artifact.add_file(str(path.resolve()), name="base-model.json", policy="immutable", skip_cache=True)
    return artifact


def ticket_artifact(ticket: Ticket) -> Any:
    """A ticket: its file, with its provenance as metadata.

    Args:
        ticket: read from a file, which must stay where it is until it is uploaded.
    """
    import wandb

    assert ticket.path is not None
    p = ticket.provenance
    level = ticket_filename(p.sparsity).removesuffix(".safetensors")
    # With the checksum: another mask is another artifact, so that `latest` never depends on who logged last.
    name = _name(f"{p.task}-{p.language}-seed{p.seed}-{level}-{ticket.checksum[:8]}")
    artifact = wandb.Artifact(name, type="ticket", metadata={**p.to_metadata(), "checksum": ticket.checksum})
    # Under one name whatever the file's own: a copy of it is the same artifact.
    artifact.add_file(str(ticket.path.resolve()), name="ticket.safetensors", policy="immutable", skip_cache=True)
    return artifact


def _name(text: str) -> str:
    """Makes a text fit for W&B: letters, digits, ``-``, ``_`` and ``.``."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[-LONGEST:].lstrip("-.")
