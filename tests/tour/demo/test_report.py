"""The summary that the demonstration prints at its end."""

from io import StringIO

import pytest
from rich.console import Console

from tour.demo.report import DemoReport

SERVED = {"served": {"fraud": 2, "image": 1}, "refused": {"case": "image", "state": "refused"}}
RETRAINED = {
    "decision": {"action": "retrain"},
    "run": {"state": "pushed"},
    "metric": {"name": "pr_auc", "before": 0.35, "after": 0.6, "rows": 800},
    "line": "a longer line",
}


def print_summary(succeeded: bool, **results: object) -> list[list[str]]:
    """The words of each printed line."""
    report = DemoReport(Console(file=StringIO(), width=120))
    report.summary |= SERVED | results
    report.seconds["first part"] = 12.3
    report.print_summary(succeeded)
    return [line.split() for line in report.console.file.getvalue().splitlines()]


def test_row_shows_version_requests_failures_and_outcome() -> None:
    traffic = {"fraud": {"sent": 245, "failed": 1}}
    lines = print_summary(True, traffic=traffic, drift={"fraud": RETRAINED}, failed=1)
    assert " ".join(lines[1][:3]) == "Every part succeeded" and lines[1][-3:] == ["failed", "requests:", "1"]
    outcome = ["drift:", "retrain,", "pushed;", "pr_auc", "0.3500", "before,", "0.6000", "now"]
    assert ["fraud", "version", "2", "245", "1", *outcome] in lines
    assert ["image", "version", "1", "0", "0", *["candidate", "after", "one", "training", "step:", "refused"]] in lines
    assert ["12.3", "first", "part"] in lines


@pytest.mark.parametrize(
    ("drift", "outcome"),
    [
        ({"line": "no retraining: it lost little"}, "no retraining: it lost little"),
        ({"injected": ["amount:1.3@12"]}, "the drift part was not completed"),
        ({**RETRAINED, "run": {"state": "refused"}, "metric": None}, "drift: retrain, refused"),
    ],
)
def test_outcome_of_a_drift_without_a_swap_is_shown(drift: dict, outcome: str) -> None:
    lines = print_summary(False, drift={"fraud": drift})
    assert " ".join(lines[1][:3]) == "A part failed"
    assert ["fraud", "version", "2", "0", "0", *outcome.split()] in lines
