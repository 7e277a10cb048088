from pathlib import Path

import pytest

from lnsub.cli.commands import run
from lnsub.common.errors import UserError
from tests.support.overlap_command import noisy, overlap, rows_of
from tests.support.ticket_factory import random_masks, ticket

LANGUAGES = ("fr", "ur", "zh")


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """A run of each language on each of two samples, and one with shuffled labels."""
    made = []
    for place, language in enumerate(LANGUAGES):
        base = random_masks(0.5, place)
        for sample in (0, 1):
            facts = {"condition": "sample1"} if sample else {}
            mask = noisy(base, 0.05, 10 * place + sample)
            made.append(ticket(mask, language=language, rows=f"{language}, sample {sample}", seed=57, **facts))
    facts = {"condition": "shuffled", "labels": "shuffled", "rows": "fr, sample 0", "seed": 57}
    made.append(ticket(random_masks(0.5, 77), **facts))
    return [str(one.save(tmp_path / f"{n}.safetensors")) for n, one in enumerate(made)]


def test_one_command_contrasts_language_with_sample_and_sorts_pairs_by_what_they_share(
    paths: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [*paths, "--shared", "--contrast", "seed57,seed57-sample1"]
    row = rows_of(capsys, *asked, table="contrast")[0]
    assert (row["measure"], row["p"], row["shared"]) == ("overlap", pytest.approx(1 / 6), "head + order")
    classes = [(r["shared"], r["trained_on"], r["pairs"]) for r in rows_of(capsys, *asked, table="shared")]
    assert classes[::2] == [
        ("head + order + language", "given", 3),
        ("head + order", "given", 12),
        ("head + order + rows + language", "shuffled in one", 1),
        ("head + order + language", "shuffled in one", 1),
        ("head + order", "shuffled in one", 4),
    ]
    text = " ".join(overlap(capsys, *asked).split())
    assert "fr/seed57-sample1" in text
    assert f"overlap, one language less two: {row['difference']:.4f} (95 % {row['difference_low']:.4f} to" in text
    assert "p 0.17, at least 0.17 with 3 languages." in text


def test_a_contrast_whose_diagonal_shares_rows_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = [ticket(random_masks(0.5, n), language=lang, seed=n % 2) for n, lang in enumerate(("fr", "fr", "ur", "ur"))]
    paths = [str(one.save(tmp_path / f"{n}.safetensors")) for n, one in enumerate(made)]
    text = " ".join(overlap(capsys, *paths, "--contrast", "seed0,seed1").split())
    assert "runs of one language share their rows too" in text


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("seed57", "--contrast takes two sets of runs"),
        ("seed57,seed57", "--contrast takes two sets of runs"),
        ("seed57,seed58", "names seed58, of which no ticket here is; they are of seed57, seed57-sample1"),
    ],
)
def test_sets_of_runs_that_are_not_there_are_refused(paths: list[str], asked: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run("overlap", [*paths, "--contrast", asked])


def test_two_sets_without_two_languages_in_common_have_no_contrast(
    paths: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "No contrast of languages" in overlap(capsys, paths[0], paths[1], "--contrast", "seed57,seed57-sample1")
