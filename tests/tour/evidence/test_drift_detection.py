"""Evidence on drift detection on the demo's run."""

import pytest

from models.catalog import CASES
from tour.evidence.context import Context
from tour.evidence.result_types import Number, Table
from tour.evidence.serving import drift_detection

pytestmark = pytest.mark.system


@pytest.mark.parametrize("case", CASES)
def test_drift_is_detected_in_a_changed_window_only(pushed_home, case) -> None:
    context = Context.of(pushed_home, case)
    results = drift_detection.drift_and_faults(context)
    clean, drifted, faulty, faults = (result for result in results if isinstance(result, Table))
    number = drifted.title.split()[1]
    marks = {name: {row[0]: row[-1] for row in table.rows} for name, table in (("clean", clean), ("drifted", drifted))}
    assert set(marks["clean"].values()) == {False} and marks["drifted"][number] is True
    assert [column for column, drifts in marks["drifted"].items() if drifts] == [number]
    assert {row[0] for row in faults.rows} <= {faulty.title.removeprefix("Window ").split(",")[0]}
    assert (number, True) in {(row[1], row[2] in ("units", "range")) for row in faults.rows}
    assert [result.value for result in results if isinstance(result, Number)][-1] is True
