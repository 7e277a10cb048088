import json
from pathlib import Path

import numpy as np
import pytest

from lnsub.analysis.overlap.jaccard import overlap
from lnsub.common.errors import UserError
from lnsub.tickets.combining import HOW, combine
from lnsub.tickets.ticket import Ticket
from tests.support.ticket_factory import SHAPES, kept_set, random_masks, random_ticket, ticket

BY_COUNT = {
    "union": lambda kept, first, n: kept >= 1,
    "intersection": lambda kept, first, n: kept == n,
    "majority": lambda kept, first, n: kept > n / 2,
    "difference": lambda kept, first, n: first and kept == 1,
}


def unpacked(made: Ticket) -> dict[str, np.ndarray]:
    return {
        name: np.unpackbits(mask, count=int(np.prod(made.shapes[name])), bitorder="little").astype(bool)
        for name, mask in made.masks.items()
    }


@pytest.mark.parametrize("n", [2, 3, 4, 5, 7, 8, 15, 16])
@pytest.mark.parametrize("how", BY_COUNT)
def test_each_weight_is_kept_as_its_count_says(how: str, n: int) -> None:
    masks = [random_masks(0.5, seed) for seed in range(n)]
    sets = [kept_set(m) for m in masks]
    made = combine([ticket(m, language=f"l{i}") for i, m in enumerate(masks)], how)
    expected = {
        weight
        for weight in set.union(*sets)
        if BY_COUNT[how](sum(weight in kept for kept in sets), weight in sets[0], n)
    }
    assert kept_set(unpacked(made)) == expected
    assert made.provenance.sparsity == made.sparsity


def test_every_way_is_tested() -> None:
    assert set(HOW) == set(BY_COUNT)


def test_the_sources_are_in_the_provenance_and_survive_the_file(tmp_path: Path) -> None:
    parts = [random_ticket(0.5, i, language=code, seed=i, round=3) for i, code in enumerate(("fr", "de", "fr"))]
    made = Ticket.load(combine(parts, "majority").save(tmp_path / "core.safetensors"))
    p = made.provenance
    assert (p.task, p.language, p.seed, p.round, p.score, p.scope) == ("xnli", "fr+de", -1, 3, "majority", "global")
    assert json.loads(p.sources) == {
        "how": "majority",
        "left_out": [],
        "tickets": [
            {"checksum": t.checksum, "task": "xnli", "language": code, "seed": i, "sparsity": 0.5}
            for i, (t, code) in enumerate(zip(parts, ("fr", "de", "fr"), strict=True))
        ],
    }
    (row, *_) = overlap([made, parts[0]])
    assert row["weights"] == made.total


def test_parameters_that_not_all_have_are_left_out_and_named() -> None:
    small = {name: shape for name, shape in SHAPES.items() if not name.startswith("pooler")}
    made = combine([random_ticket(0.5, 1), random_ticket(0.5, 2, small, task="wikiann")], "union")
    assert made.shapes == small
    assert json.loads(made.provenance.sources)["left_out"] == ["pooler.dense.weight"]
    assert made.provenance.task == "xnli+wikiann"


def test_what_cannot_be_combined_is_refused() -> None:
    a = random_ticket(0.5, 1)
    with pytest.raises(UserError, match="cannot be combined by 'xor': choose from union, intersection, majority"):
        combine([a, a], "xor")
    with pytest.raises(UserError, match=r"union .*at least two.* 1$"):
        combine([a], "union")
    with pytest.raises(UserError, match="different base models"):
        combine([a, random_ticket(0.5, 2, base_fingerprint="cd" * 32)], "union")
    with pytest.raises(UserError, match="no parameter in common"):
        combine([a, random_ticket(0.5, 2, {"w": (3, 3)})], "union")
