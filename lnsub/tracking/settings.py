"""Where a run is logged on W&B, and what it is called there. Needs neither wandb nor torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RunCard:
    """What a run is, for people and for the filters of a dashboard.

    Attributes:
        name: its name.
        job_type: what it does: ``imp``, ``dense``, ``transfer``, ``zero_shot``.
        group: its group unless the settings name one.
        tags: its tags, in addition to those of the settings.
        facts: shown at the top of its configuration: task, language, seed, ...
    """

    name: str
    job_type: str
    group: str
    tags: tuple[str, ...]
    facts: Mapping[str, Any]
