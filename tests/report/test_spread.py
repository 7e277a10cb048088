"""What figures say of seeds and of what was resampled."""

import re

import pandas as pd
import pytest

from lnsub.report import Made
from lnsub.report.build import FIGURES
from lnsub.report.spread import seed_words
from tests.support.report_page import document, section, words


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ({"NER": [57, 58]}, "Seeds: 2 (57 and 58)."),
        ({"NER": [57]}, "Seeds: 1 (57); so nothing is known of the spread over seeds."),
        (
            {"NER": [57, 58], "XNLI": [57], "MLM": [57]},
            "Seeds: 2 (57 and 58) of NER; 1 (57) of XNLI and MLM; "
            "with one seed nothing is known of the spread over seeds.",
        ),
        ({}, "Seeds: none."),
    ],
)
def test_seeds_are_counted_study_by_study(seeds: dict[str, list[int]], said: str) -> None:
    rows = [{"study": study, "seed": seed} for study, found in seeds.items() for seed in found]
    assert seed_words(pd.DataFrame(rows, columns=["study", "seed"])) == said


def test_cells_of_fewer_seeds_are_said() -> None:
    rows = pd.DataFrame([("NER", "fr", 57), ("NER", "fr", 58), ("NER", "ar", 57)], columns=["study", "target", "seed"])
    assert seed_words(rows, cell=("target",)) == "Seeds: 1 to 2 (57 and 58)."
    pairs = pd.DataFrame([("NER", 57, 58), ("NER", 58, 59)], columns=["study", "seed_a", "seed_b"])
    assert seed_words(pairs, ("seed_a", "seed_b")) == "Seeds: 3 (57, 58 and 59)."


def test_every_figure_says_how_many_seeds_and_what_its_spread_is(made: Made) -> None:
    said = {e.get("id"): [words(p) for p in e.iter("p")] for e in document(made).iter("section")}
    figures = {name: texts for name, texts in said.items() if name not in {"runs", "left-out"}}
    # The findings too; not the controls, of which plain runs have none. The figure beside the paper is in neither.
    assert len(figures) == len(FIGURES)
    for name, texts in figures.items():
        assert sum(text.startswith("Seeds: ") for text in texts) == 1, name
        spread = r"interval|resampled|permutations|drawn without replacement"
        assert re.search(spread, " ".join(texts), flags=re.IGNORECASE), name
    for name, resampled in (
        ("similarity_by_layer", "sentences are drawn without replacement"),
        ("neutrality", "languages and seeds are left out one at a time"),
        ("overlap_against_transfer", "permutations of the languages"),
        ("metric_by_sparsity", "from the lowest to the highest seed"),
    ):
        assert resampled in words(section(made, name))
