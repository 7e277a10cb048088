import numpy as np
import pytest

from lnsub.analysis.overlap.inheritance import departures
from lnsub.analysis.overlap.raking import expected_raked, raked
from lnsub.tickets.ticket import Ticket
from tests.support.ticket_factory import ticket

SHAPE = (160, 120)


def scaled_runs(
    scale: float, runs: int, *, product: bool = False
) -> tuple[list[Ticket], Ticket, dict[str, np.ndarray]]:
    """Runs that share nothing but the scales of rows and columns, each a factor exp(scale * normal).

    They scale how far weights move, or as a ``product`` the probability of a flip.
    """
    rng = np.random.default_rng(7)
    name = "encoder.layer.0.attention.self.query.weight"
    theta_0 = rng.normal(0, 0.04, SHAPE).astype(np.float32)
    factor = np.exp(scale * rng.normal(size=(SHAPE[0], 1)) + scale * rng.normal(size=(1, SHAPE[1])))
    threshold = np.median(np.abs(theta_0))
    base, distance = np.abs(theta_0) > threshold, np.abs(np.abs(theta_0) - threshold)
    likely = 0.5 * np.exp(-distance / 0.003) * factor / factor.mean()
    made = []
    for i in range(runs):
        moved = np.abs(theta_0 + 0.003 * factor * rng.normal(size=SHAPE)) > threshold
        mask = base ^ (rng.random(SHAPE) < likely) if product else moved
        made.append(ticket({name: mask}, language=f"l{i}"))
    return made, ticket({name: base}, task="inherited"), {name: theta_0}


def test_a_fit_has_the_margins_of_the_departure() -> None:
    rng = np.random.default_rng(0)
    departed = rng.random(6000) < 0.1
    margins = [rng.integers(0, n, departed.size) for n in (8, 40, 30)]
    fitted = raked(departed, *margins)
    for of in margins:
        counted = [int(departed[of == k].sum()) for k in range(of.max() + 1)]
        assert [fitted[of == k].sum() for k in range(of.max() + 1)] == pytest.approx(counted, rel=0.01)
    assert (fitted >= 0).all()
    assert (fitted <= 1).all()


@pytest.mark.parametrize("product", [False, True])
def test_scales_of_rows_and_columns_are_no_agreement(product: bool) -> None:
    made, base, theta_0 = scaled_runs(0.5, 8, product=product)
    shared = {}
    for null in ("magnitude", "raked"):
        rows = departures(made, [base], theta_0, null=null)
        shared[null] = sum(r["departed_both"] for r in rows) / sum(r["expected_both"] for r in rows)
    assert shared["magnitude"] > 1.2  # the scales alone look like agreement
    assert shared["raked"] == pytest.approx(1, abs=0.06)


def test_without_such_scales_both_nulls_agree() -> None:
    made, base, theta_0 = scaled_runs(0, 6)
    plain, fitted = (
        np.mean([r["null"] for r in departures(made, [base], theta_0, null=null)]) for null in ("magnitude", "raked")
    )
    assert fitted == pytest.approx(plain, rel=0.05)


def test_units_have_no_rows_to_rake() -> None:
    rng = np.random.default_rng(3)
    theta_0 = {"layers.0.neurons": rng.random(400)}
    kept = theta_0["layers.0.neurons"] > 0.5
    made = [ticket({"layers.0.neurons": kept ^ (rng.random(400) < 0.2)}, language=str(i)) for i in range(2)]
    base = ticket({"layers.0.neurons": kept}, task="inherited")
    (plain,), (fitted,) = (departures(made, [base], theta_0, null=null) for null in ("magnitude", "raked"))
    assert fitted == plain


def test_where_nothing_departs_or_nothing_can_nothing_is_expected() -> None:
    for size in (0, 6):
        nothing, at = np.zeros(size, bool), np.arange(size)
        assert expected_raked([nothing, nothing], np.zeros(size, int), at, 3).tolist() == [0]
