"""Statistics and anomalies as TFDV writes them, read for a stage's page."""

from pathlib import Path

import pytest
from support.shown_home import (
    plant_home,
)

from tour.artifacts import statistics


def test_shares_of_a_histogram_add_up_to_1(tmp_path: Path) -> None:
    splits = statistics.read_statistics(plant_home(tmp_path) / "artifacts" / "statistics")
    amount, channel = statistics.features(splits)
    assert (amount["numeric"], channel["numeric"]) == (True, False) and channel["tops"] == ["online"]
    series, _ = statistics._numbers({split: read.features[0] for split, read in splits.items()})
    assert all(sum(shares) == pytest.approx(1) for shares in series.values())
    assert statistics.anomalies(tmp_path / "artifacts" / "anomalies") == [
        {"split": "eval", "feature": "channel", "short": "Unexpected string values", "full": "online"}
    ]
