"""Base models and tickets as W&B artifacts, named so that the same content is always the same artifact.

A run of IMP uses its base model and makes tickets; a transfer uses both: W&B draws the lineage from that. An artifact
is made from local files alone, and the server finds the version with the same content.
"""

import json
import re
from pathlib import Path
from typing import Any

from lnsub.common.files import replacing
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
    path = folder.path / "wandb" / "base-model.json"
    with replacing(path) as file:
        file.write((json.dumps(facts, indent=1) + "\n").encode())
    artifact.add_file(str(path.resolve()), name="base-model.json", policy="immutable", skip_cache=True)
    return artifact


def ticket_artifact(ticket: Ticket) -> Any:
    """A ticket: its file, with its provenance as metadata.

    Args:
        ticket: read from a file, which must stay in place until it is uploaded (offline: until `wandb sync`).
    """
    import wandb

    assert ticket.path is not None
    p = ticket.provenance
    level = ticket_filename(p.sparsity).removesuffix(".safetensors")
    # With the checksum: another mask is another artifact, so `latest` does not depend on who logged last.
    name = _name(f"{p.task}-{p.language}-seed{p.seed}-{level}-{ticket.checksum[:8]}")
    artifact = wandb.Artifact(name, type="ticket", metadata={**p.to_metadata(), "checksum": ticket.checksum})
    # Under a fixed name: a copy of the file is the same artifact.
    artifact.add_file(str(ticket.path.resolve()), name="ticket.safetensors", policy="immutable", skip_cache=True)
    return artifact


def _name(text: str) -> str:
    """Makes a text fit for W&B: letters, digits, ``-``, ``_`` and ``.``."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[-LONGEST:].lstrip("-.")
