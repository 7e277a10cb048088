import math

import pytest

from lnsub.report.drawing.axes import round_ticks


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
