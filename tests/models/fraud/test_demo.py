"""The demonstration's faults: the generator accepts them, and the schema has the feature that a refusal names."""

import pytest

from models.fraud import demo
from models.fraud.case import CASE
from models.fraud.generator.drift import Drift


@pytest.mark.parametrize("change", [*demo.DRIFT, demo.BROKEN_SPANS.change, demo.SHIFT.change])
def test_generator_accepts_every_change_of_the_demonstration(change: str) -> None:
    kind, size = change.split(":")
    drift = Drift.parse(f"{change}@{demo.BROKEN_SPANS.first_day}")
    assert (drift.kind, drift.size, drift.day) == (kind, float(size), demo.BROKEN_SPANS.first_day)


def test_broken_spans_name_a_feature_of_the_schema_and_settings_of_the_case() -> None:
    assert f'name: "{demo.BROKEN_SPANS.feature}"' in CASE.schema_path.read_text()
    assert CASE.configure(dict(setting.split("=") for setting in demo.BROKEN_SPANS.settings))
    assert 0 < demo.BROKEN_SPANS.first_day < demo.BROKEN_SPANS.days and demo.SHIFT.every > 0
