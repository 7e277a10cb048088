import numpy as np

from lnsub.tickets.density import density_by
from lnsub.tickets.parameters import kind_of, layer_of
from tests.support.ticket_factory import SHAPES, kept_set, random_masks, ticket


def test_densities_equal_plain_sets() -> None:
    masks = random_masks(0.3, 1)
    made = ticket(masks)
    for by in ((), ("layer",), ("layer", "kind")):
        rows = density_by(made.kept_by_name, made.weights_by_name, by)
        of = {"layer": layer_of, "kind": kind_of}
        for row in rows:
            names = {name for name in SHAPES if all(of[b](name) == row[b] for b in by)}
            weights = sum(int(np.prod(SHAPES[name])) for name in names)
            kept = len(kept_set(masks, names))
            assert (row["kept"], row["weights"], row["density"]) == (kept, weights, kept / weights)
        assert sum(row["weights"] for row in rows) == made.total
    assert density_by(made.kept_by_name, made.weights_by_name) == density_by(
        made.kept_by_name, made.weights_by_name, ("layer", "kind")
    )
