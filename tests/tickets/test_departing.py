import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from lnsub.common.errors import UserError
from lnsub.tickets.departing import PARTS, part_of_departures
from lnsub.tickets.ticket import Ticket
from tests.support.ticket_factory import SHAPES, kept_set, random_masks, ticket

SPARSITY = 0.5


def of_sparsity(seed: int, shapes: dict[str, tuple[int, ...]] = SHAPES) -> dict[str, np.ndarray]:
    """Random masks that keep exactly half."""
    rng = np.random.default_rng(seed)
    total = sum(int(np.prod(shape)) for shape in shapes.values())
    flat = rng.permutation(np.arange(total) % 2 == 0)
    masks = {}
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        masks[name], flat = flat[:size].reshape(shape), flat[size:]
    return masks


def inherited_of(masks: dict[str, np.ndarray], **changes: object) -> Ticket:
    facts = {"task": "inherited", "language": "inherited", "score": "magnitude_init", "seed": -1, "round": -1}
    return ticket(masks, **facts | changes)


OWN, FOREIGN, BASE = (of_sparsity(seed) for seed in (1, 2, 3))
THREE = ticket(OWN, language="fr", seed=57), ticket(FOREIGN, language="ur", seed=57), inherited_of(BASE)


def departures(part: str) -> tuple[set, set]:
    """Weights that a part keeps though small, and those that it prunes though large, by plain sets."""
    own, foreign, base = map(kept_set, (OWN, FOREIGN, BASE))
    pick = {
        "shared": lambda a, b: a & b,
        "own": lambda a, b: a - b,
        "foreign": lambda a, b: b - a,
    }[part]
    return pick(own - base, foreign - base), pick(base - own, base - foreign)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_drawn_from_its_departures_and_nothing_else_changes(part) -> None:
    made = part_of_departures(*THREE, part, seed=5)
    size = min(len(weights) for one in PARTS for weights in departures(one))
    small, large = departures(part)
    base, kept = kept_set(BASE), kept_set(made.ticket.bits())
    assert (made.drawn, made.of) == (size, (len(small), len(large)))
    assert kept - base <= small
    assert base - kept <= large
    assert len(kept - base) == len(base - kept) == size > 0
    assert made.ticket.sparsity == THREE[2].sparsity
    again, other = (part_of_departures(*THREE, part, seed=seed).ticket for seed in (5, 6))
    assert again.checksum == made.ticket.checksum
    assert (other.checksum == made.ticket.checksum) == (len(small) == len(large) == size)


def test_every_departure_is_as_likely_to_be_drawn() -> None:
    part, direction = max(product(PARTS, (0, 1)), key=lambda one: len(departures(one[0])[one[1]]))
    there, base = departures(part)[direction], kept_set(BASE)
    often = dict.fromkeys(there, 0)
    for seed in range(200):
        made = part_of_departures(*THREE, part, seed)
        kept = kept_set(made.ticket.bits())
        for weight in (kept - base, base - kept)[direction]:
            often[weight] += 1
    share = made.drawn / len(there)
    assert share < 0.95
    spread = (200 * share * (1 - share)) ** 0.5
    assert all(abs(count - 200 * share) < 4.5 * spread for count in often.values())


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    made = part_of_departures(*THREE, "own", seed=5)
    p = Ticket.load(made.ticket.save(tmp_path / "own.safetensors")).provenance
    assert (p.score, p.language, p.task, p.seed, p.sparsity) == ("departures:own", "fr+ur", "xnli", 57, 0.5)
    sources = json.loads(p.sources)
    assert (sources["part"], sources["drawn"], tuple(sources["of"])) == ("own", made.drawn, made.of)
    assert (sources["draw_seed"], sources["inherited"]) == (5, THREE[2].checksum)
    assert [source["checksum"] for source in sources["tickets"]] == [THREE[0].checksum, THREE[1].checksum]


def test_what_the_checkpoint_lacks_is_left_out() -> None:
    shapes = {name: shape for name, shape in SHAPES.items() if not name.startswith("pooler")}
    made = part_of_departures(*THREE[:2], inherited_of(random_masks(0.5, 3, shapes)), "shared")
    assert made.ticket.shapes == shapes
    assert json.loads(made.ticket.provenance.sources)["left_out"] == ["pooler.dense.weight"]


def test_what_does_not_compare_is_refused() -> None:
    own, foreign, base = THREE
    for changes, word in (
        ({"sparsity": 0.6}, "sparsity, 0.5 and 0.6"),
        ({"scope": "layer"}, "scope, global and layer"),
    ):
        with pytest.raises(UserError, match=word):
            part_of_departures(own, ticket(FOREIGN, **changes), base, "own")
    with pytest.raises(UserError, match="no weight kept though small in the first alone"):
        part_of_departures(own, own, base, "shared")
    with pytest.raises(UserError, match="no weight kept though small in both"):
        part_of_departures(ticket(BASE), foreign, base, "own")
    with pytest.raises(UserError, match="different base models"):
        part_of_departures(own, ticket(FOREIGN, base_fingerprint="cd" * 32), base, "own")
    with pytest.raises(UserError, match="no parameter in common"):
        part_of_departures(own, foreign, inherited_of({"w": np.eye(4) > 0}), "own")
