"""Charts of the pages."""

import pytest

from tour import charts


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.031, 0.77), (-5, 12_000), (1e-7, 3e-7), (3, 3)])
def test_ticks_lie_within_the_range(low: float, high: float) -> None:
    ticks = charts.ticks(low, high)
    assert 1 <= len(ticks) <= 8 and all(low - 1e-12 <= tick <= high * (1 + 1e-12) for tick in ticks)
