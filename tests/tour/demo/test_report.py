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
    verdict = next(line for line in lines if line[:1] == ["Every"])
    assert verdict[:3] == ["Every", "part", "succeeded"] and verdict[-3:] == ["failed", "requests:", "1"]
    outcome = ["drift:", "retrain,", "pushed;", "pr_auc", "0.3500", "before,", "0.6000", "now"]
    assert ["fraud", "version", "2", "245", "1", *outcome] in lines
    assert ["image", "version", "1", "0", "0", *["candidate", "after", "one", "training", "step:", "refused"]] in lines
    assert ["12.3", "first", "part"] in lines


def test_durations_come_first_so_that_the_verdict_is_not_scrolled_away() -> None:
    firsts = [line[0] for line in print_summary(True) if line]
    assert firsts.index("seconds") < firsts.index("Every") < firsts.index("fraud")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_addresses_are_links_where_a_terminal_opens_them(is_terminal: bool) -> None:
    console = Console(file=StringIO(), width=120, force_terminal=is_terminal, _environ={"TERM": "xterm-256color"})
    url = "http://127.0.0.1:8600/"
    report = DemoReport(console, addresses={"tour": (url, ""), "grpc": ("127.0.0.1:41", "port 8500 is in use")})
    report.print_addresses()
    tour, grpc = console.file.getvalue().splitlines()
    assert (f";{url}\x1b\\{url}" in tour) == is_terminal
    assert is_terminal or tour.split() == ["tour", url]
    assert "127.0.0.1:41" in grpc and "port 8500 is in use" in grpc and "]8;" not in grpc


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
    assert ["A", "part", "failed"] in [line[:3] for line in lines]
    assert ["fraud", "version", "2", "0", "0", *outcome.split()] in lines
