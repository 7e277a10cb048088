"""The parts that figures are made of: studies, variants, pairs, colours, ticks, words."""

import math
from itertools import pairwise

import pandas as pd
import pytest

from lnsub.report.drawing.axes import round_ticks
from lnsub.report.collect import study_labels, variant_of
from lnsub.report.drawing.colours import contrast, diverging, sequential
from lnsub.report.figure import by_level, listed, nearest, percent
from lnsub.report.language_pairs import equal_terms, shown_pairs
from lnsub.tickets.provenance import Provenance
from tests.support.ticket_factory import provenance


@pytest.mark.parametrize(
    ("changes", "found", "variant"),
    [
        ({"kind": "imp", "score": "random"}, {}, "ticket"),
        ({"ticket": None}, None, "dense"),
        ({"ticket": float("nan")}, None, "dense"),
        ({"init": "random"}, {}, "reinit"),
        ({"score": "shuffled"}, {}, "shuffled"),
        ({"score": "oneshot"}, {"score": "oneshot"}, "oneshot"),
        ({"score": "magnitude_init"}, {"task": "inherited"}, "inherited"),
        ({"score": "intersection"}, {"sources": "{}"}, "combined"),
        ({"score": "taylor"}, {"score": "taylor"}, "ticket"),
        ({}, {"task": "wikiann"}, "other task"),
        ({}, None, "ticket"),
    ],
)
def test_records_are_told_apart(changes: dict, found: dict | None, variant: str) -> None:
    values = {"kind": "transfer", "task": "xnli", "score": "magnitude", "init": "pretrained", "ticket": "ab"}
    known: Provenance | None = None if found is None else provenance(**found)
    assert variant_of(values | changes, known) == variant


def test_studies_are_named_by_what_tells_them_apart() -> None:
    keys = [("bert", "mlm", "magnitude", "global"), ("bert", "xnli", "magnitude", "global")]
    assert list(study_labels(keys).values()) == ["XNLI", "MLM"]
    keys = [("bert", "wikiann", score, scope) for score, scope in (("taylor", "layer"), ("magnitude", "layer"))]
    assert list(study_labels(keys).values()) == ["NER (magnitude)", "NER (taylor)"]


def pairs_of(runs: list[tuple[str, int]]) -> pd.DataFrame:
    rows = []
    for i, (a, seed_a) in enumerate(runs):
        for b, seed_b in runs[i + 1 :]:
            relation = "same language, " if a == b else "cross-language, "
            relation += "same seed" if seed_a == seed_b else "different seeds"
            rows.append({"language_a": a, "language_b": b, "relation": relation, "overlap": 0.5})
    return pd.DataFrame(rows)


def test_languages_are_compared_on_equal_terms_with_the_ceiling() -> None:
    cross, ceiling = equal_terms(pairs_of([("fr", 1), ("fr", 2), ("ru", 1), ("ru", 2)]))
    assert set(cross["relation"]) == {"cross-language, different seeds"}
    assert len(cross) == len(ceiling) == 2
    cross, ceiling = equal_terms(pairs_of([("fr", 1), ("ru", 1), ("zh", 1)]))
    assert (len(cross), len(ceiling)) == (3, 0)


def test_all_pairs_of_languages_are_shown_on_one_footing() -> None:
    cross, ceiling = shown_pairs(pairs_of([("fr", 1), ("fr", 2), ("ru", 1), ("zh", 1)]))
    assert set(cross["relation"]) == {"cross-language, same seed"}
    assert (len(cross), len(ceiling)) == (3, 0)
    cross, ceiling = shown_pairs(pairs_of([("fr", 1), ("fr", 2), ("ru", 1), ("ru", 2)]))
    assert (len(cross), len(ceiling)) == (2, 2)


def lightness(colour: str) -> float:
    """CIE L* of a colour, from the definition."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    y = sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y


@pytest.mark.parametrize("page", ["light", "dark"])
def test_heat_maps_grow_evenly_in_lightness_and_their_numbers_can_be_read(page: str) -> None:
    ramps = {
        "sequential": [sequential(k / 20) for k in range(21)],
        "below": [diverging(-k / 20) for k in range(21)],
        "above": [diverging(k / 20) for k in range(21)],
    }
    for name, ramp in ramps.items():
        steps = [lightness(getattr(b, page)) - lightness(getattr(a, page)) for a, b in pairwise(ramp)]
        assert all(step * steps[0] > 0 for step in steps), name
        assert max(map(abs, steps)) < 2 * min(map(abs, steps)), name
        assert all(contrast(getattr(shade, page), getattr(shade, f"{page}_ink")) >= 4.5 for shade in ramp)
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("ends", [(0.0, 0.0), (61.9, 62.0), (-3.2, 17.9), (5e-4, 6e-4), (-1e6, 3e6), (33.3, 33.3)])
def test_ticks_are_round_and_embrace_the_range(ends: tuple[float, float]) -> None:
    ticks = round_ticks(*ends)
    values = [value for value, _ in ticks]
    step = values[1] - values[0]
    assert values[0] <= ends[0] + 1e-9
    assert values[-1] >= ends[1] - 1e-9
    assert 2 <= len(ticks) <= 12
    assert len({label for _, label in ticks}) == len(ticks)
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(mantissa - good) for good in (1, 2, 5, 10)) < 1e-6
    for value, label in ticks:
        assert float(label.replace("\u2212", "-")) == pytest.approx(value, abs=1e-9 * max(1, abs(value)))


def test_the_nearest_sparsities_are_shown() -> None:
    assert nearest([0.0, 0.3, 0.49, 0.9], (0.5, 0.8)) == [0.49, 0.9]
    assert nearest([0.0, 0.6], (0.5, 0.8)) == [0.6]
    assert nearest([0.0], (0.5,)) == []


def test_words_are_put_together() -> None:
    assert [listed(["a", "b", "c"]), listed(["a"]), listed([])] == ["a, b and c", "a", ""]
    assert (
        by_level([("X", 0.5, "a"), ("X", 0.875, "b"), ("Y", 0.5, "c")])
        == "X a at 50\u00a0% and b at 87.5\u00a0%; Y c at 50\u00a0%"
    )
    assert [percent(0.1234), percent(-0.05), percent(-0.0001)] == ["12.3\u00a0%", "\u22125.0\u00a0%", "0.0\u00a0%"]
