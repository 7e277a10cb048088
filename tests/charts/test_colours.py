from itertools import pairwise

import pytest

from lnsub.charts.colours import contrast, diverging, sequential


def lightness(colour: str) -> float:
    """CIE L* of a colour, from the definition."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    y = sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y


@pytest.mark.parametrize("page", ["light", "dark"])
def test_heat_maps_grow_evenly_in_lightness_and_their_numbers_can_be_read(page: str) -> None:
    ramps = {
        "sequential": [sequential(k / 20, page) for k in range(21)],
        "below": [diverging(-k / 20, page) for k in range(21)],
        "above": [diverging(k / 20, page) for k in range(21)],
    }
    for name, ramp in ramps.items():
        steps = [lightness(b) - lightness(a) for a, b in pairwise(ramp)]
        assert all(step * steps[0] > 0 for step in steps), name
        assert max(map(abs, steps)) < 2 * min(map(abs, steps)), name
        assert all(max(contrast(shade, ink) for ink in ("#000000", "#ffffff")) >= 4.5 for shade in ramp)
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
