"""What sets a run apart from the plain one of its seed, as records and tickets say it."""

from lnsub.runs.condition import Condition
from lnsub.tasks.task import LanguageDataModule
from lnsub.training.module import SubnetModule


def condition_of(module: SubnetModule, data: LanguageDataModule) -> str | None:
    """Names the condition that a model is trained under; None for a plain run."""
    apart = Condition(module.head_seed, module.order_seed, data.subset_seed, data.train_sample, data.labels)
    return apart.name(module.seed)


def provenance_facts(module: SubnetModule, data: LanguageDataModule) -> dict[str, str]:
    """The fields of a ticket's provenance that say what the run shares with others."""
    return {
        "condition": condition_of(module, data) or "",
        "head": str(module.head_seed) if module.has_fresh_weights else "pretrained",
        "order": str(module.order_seed),
        "rows": data.rows_used,
        "labels": data.labels or "",
    }
