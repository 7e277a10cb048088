"""Which sub-network embeds which language."""

import pytest
import torch

from lnsub.analysis.parallel.cells import own_cells, shared_cells
from lnsub.analysis.parallel.embedding import SentenceEncoder
from lnsub.analysis.parallel.sentence_pairs import Pairs
from lnsub.analysis.parallel.states import ParallelStates
from lnsub.common.errors import UserError
from tests.support.sentence_models import WORDS, make_base, ticket_of

TEXT = tuple(f"{a} {b}" for a, b in zip(WORDS[:8], WORDS[8:16], strict=True))
OTHER = tuple(f"{b} {a}" for a, b in zip(WORDS[:8], WORDS[9:17], strict=True))
FR, UR = Pairs("fr", TEXT, OTHER), Pairs("ur", TEXT, OTHER[::-1])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_base(tmp_path_factory.mktemp("base"))


def of(base: str, language: str, **changes: object):
    """A ticket whose mask depends on its language."""
    shift = {"en": -0.1, "fr": 0.0, "ur": 0.1}[language]
    return ticket_of(base, lambda w: w > shift, language=language, **{"sparsity": 0.5} | changes)


def test_a_ticket_is_shared_by_both_languages_and_the_dense_model_comes_first(base):
    fr = of(base, "fr")
    cells = shared_cells([fr], [FR, UR])
    assert [(c.label, c.pairs.language) for c in cells] == [
        *(("dense", "fr"), ("dense", "ur")),
        *((fr.label, "fr"), (fr.label, "ur")),
    ]
    assert all(c.ticket is c.pivot_ticket for c in cells)
    assert cells[2].facts()["pivot_ticket"] is None


def test_own_tickets_are_paired_where_they_differ_in_their_language_alone(base):
    en, fr, ur = (of(base, code) for code in ("en", "fr", "ur"))
    en8, fr8 = (of(base, code, sparsity=0.8) for code in ("en", "fr"))
    cells = own_cells([en, fr8, fr, ur, en8], [FR, UR])
    assert [(c.label, c.pairs.language, c.ticket, c.pivot_ticket) for c in cells[2:]] == [
        ("xnli/own/seed0/s0.50", "fr", fr, en),
        ("xnli/own/seed0/s0.50", "ur", ur, en),
        ("xnli/own/seed0/s0.80", "fr", fr8, en8),  # of Urdu there is none at 80 %
    ]
    assert [c.label for c in cells[:2]] == ["dense", "dense"]
    facts = cells[2].facts()
    assert (facts["ticket"], facts["pivot_ticket"], facts["source"]) == (fr.checksum, en.checksum, "fr")


def test_own_tickets_that_are_missing_or_there_twice_are_named(base):
    en, fr = of(base, "en"), of(base, "fr")
    with pytest.raises(UserError, match="are of 'en' and 'ur': --own-tickets needs both"):
        own_cells([en, fr], [FR, UR])
    with pytest.raises(UserError, match="are of 'en' and 'fr'"):
        own_cells([of(base, "en", seed=1), fr], [FR])
    with pytest.raises(UserError, match=r"xnli/fr/seed0/s0\.50 is given twice"):
        own_cells([en, fr, of(base, "fr")], [FR])


def test_each_language_is_embedded_under_its_own_ticket(base):
    en, fr, ur = (of(base, code) for code in ("en", "fr", "ur"))
    states = ParallelStates(base, [FR, UR], [en, fr, ur], own=True, device="cpu")
    encoder = SentenceEncoder(base, "cpu")

    def embedded(ticket, text) -> torch.Tensor:
        encoder.apply_ticket(ticket)
        return encoder.embed(encoder.tokenise(text), (0, 1, 2))

    expected = [(None, None, FR), (None, None, UR), (en, fr, FR), (en, ur, UR)]
    for cell, (first, second, pairs) in zip(states.cells, expected, strict=True):
        found = list(states.of(cell))
        assert [one.layer for one in found] == [0, 1, 2]
        assert torch.equal(torch.stack([one.first for one in found]), embedded(first, pairs.first))
        assert torch.equal(torch.stack([one.second for one in found]), embedded(second, pairs.second))


def test_two_collections_of_the_same_languages_are_refused(base):
    with pytest.raises(UserError, match="two collections of pairs of en and fr"):
        ParallelStates(base, [FR, FR], device="cpu")
    ParallelStates(base, [FR, Pairs("fr", TEXT, OTHER, pivot="ur")], device="cpu")
