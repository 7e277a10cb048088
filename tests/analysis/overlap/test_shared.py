import pytest

from lnsub.analysis.overlap.jaccard import labels, pair_facts
from lnsub.analysis.overlap.shared import is_plain, pair_labels, relation_of
from tests.support.ticket_factory import random_ticket

SAMPLE_0, SAMPLE_1 = "fr, sample 0 of 2000 rows", "fr, sample 1 of 2000 rows"
B = {"condition": "sample1", "rows": SAMPLE_1}


@pytest.mark.parametrize(
    ("a", "b", "shared", "relation"),
    [
        ({}, {"seed": 1}, "rows + language", "same language, different seeds"),
        ({}, {"language": "de"}, "head + order", "cross-language, same seed"),
        ({}, {"language": "de", "seed": 1}, "nothing", "cross-language, different seeds"),
        ({}, {}, "head + order + rows + language", "same language, same seed"),
        ({"rows": SAMPLE_0}, {"rows": SAMPLE_0, "seed": 1}, "rows + language", "same language, different seeds"),
        ({"rows": SAMPLE_0}, B, "head + order + language", "same language, same seed"),
        ({"rows": SAMPLE_0, "seed": 1}, B, "language", "same language, different seeds"),
        ({}, {"head": "58", "condition": "head58"}, "order + rows + language", "same language, same order"),
        ({"order": "9", "condition": "order9"}, {}, "head + rows + language", "same language, same head"),
        ({"head": "1"}, {"task": "mlm", "head": "1"}, "language", "same language, same seed"),
        ({"head": "pretrained"}, {"task": "mlm", "head": "pretrained"}, "head + language", "same language, same seed"),
        ({"rows": "row 7"}, {"rows": "row 7", "language": "de", "seed": 1}, "rows", "cross-language, different seeds"),
        ({"seed": -1}, {"seed": -1}, "language", "same language, same seed"),
    ],
)
def test_a_pair_says_what_it_shares(a: dict[str, object], b: dict[str, object], shared: str, relation: str) -> None:
    row = pair_facts(random_ticket(0.5, 1, **a), random_ticket(0.5, 2, **b))
    assert (row["shared"], relation_of(row)) == (shared, relation)
    assert is_plain(row) == ("condition" not in {*a, *b})


def test_shuffled_labels_of_one_and_of_both_are_told_apart() -> None:
    given, shuffled = random_ticket(0.5, 1), random_ticket(0.5, 2, labels="shuffled", condition="shuffled")
    assert pair_labels(pair_facts(given, given)) == "given"
    assert pair_labels(pair_facts(shuffled, given)) == "shuffled in one"
    assert pair_labels(pair_facts(shuffled, shuffled)) == "shuffled"


def test_a_tickets_name_tells_its_condition() -> None:
    assert labels([random_ticket(0.5, 1), random_ticket(0.5, 2, **B)]) == [
        "xnli/fr/seed0/s0.50",
        "xnli/fr/seed0-sample1/s0.50",
    ]
