"""The nine findings of Foroutan et al. (2022), each confirmed, refuted or not tested by numbers.

The same functions judge published numbers and measured ones. A finding has one clause or more; each holds, fails, or
cannot be tested for want of numbers. A finding is *refuted* where a clause fails, *confirmed* where none fails and one
holds, else *not tested*; its sentence gives the numbers of each clause, and names those that were not tested.

"At 50 %" is the measured sparsity nearest to it, no more than five points away. Loss is what a change of the metric
takes away: minus the change, or the change of a metric that is better when lower.
"""

from collections.abc import Callable

from lnsub.analysis.findings.evidence import CONFIRMED, NOT_TESTED, REFUTED, Evidence, Finding
from lnsub.analysis.findings.tickets import (
    overlap_differs_by_task,
    retrieval_in_the_middle,
    seeds_overlap_more,
    winning_tickets_exist,
)
from lnsub.analysis.findings.transfers import (
    drop_grows,
    mixture_transfers_better,
    mlm_transfers_badly,
    overlap_predicts_little,
    transfer_at_half,
)

__all__ = ["CONFIRMED", "FINDINGS", "NOT_TESTED", "REFUTED", "Evidence", "Finding", "findings"]

FINDINGS: tuple[Callable[[Evidence], Finding], ...] = (
    winning_tickets_exist,
    overlap_differs_by_task,
    seeds_overlap_more,
    transfer_at_half,
    drop_grows,
    overlap_predicts_little,
    mixture_transfers_better,
    mlm_transfers_badly,
    retrieval_in_the_middle,
)
"""The functions that judge, in the order of the findings' numbers."""


def findings(evidence: Evidence) -> list[Finding]:
    """Judges all nine findings, in order."""
    return [judge(evidence) for judge in FINDINGS]
