"""The page on a window: whole, small, and with nothing of the data in it that a browser would run."""

import json
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.drift_case import CUT, FIRST, pushed, served, usual

from components.monitoring import drift_page
from serving.drift.gateway_monitor import Live, counted
from serving.drift.reference.reference_profile import Normal
from serving.gateway.log.log_files import read

EVIL = '<script>alert("x")</script>'


@pytest.fixture(scope="module")
def known() -> Normal:
    return usual()


def drawn(folder: Path, known: Normal, reason: str = "why") -> str:
    """The page of the last of some days, of which the last two have drifted."""
    pushed(folder / "versions", known)
    served(folder / "predictions", 0, 1, 2)
    served(folder / "predictions", 3, 4, factor=1.4)
    live = Live("tiny", folder, folder / "versions", CUT, [])
    windows = [json.loads(json.dumps(asdict(one))) for one in live.step()]
    rows = [data for _, data in read(folder / "predictions")][3 * 400 : 4 * 400]
    (folder / f"{FIRST + 3}-1.json").write_bytes(counted(known, rows).profile.to_bytes())
    record = {
        "id": "tiny-1",
        "case": EVIL,
        "window": FIRST + 3,
        "version": 1,
        "action": "watch",
        "reasons": [reason],
        "metric": "pr_auc",
        "policy": {"loss": 0.05},
        "model": "m",
        "report": "r",
    }
    found = {
        "windows": windows,
        "incidents": live.judge.incidents.to_json()["seen"],
        "realised": {str(FIRST): {"value": 0.4, "error": 0.1, "rows": 9}},
        "tfdv": {str(FIRST + 3): [{"feature": EVIL, "comparator": "skew", "measure": "linf", "value": 0.5}]},
    }
    return drift_page.drawn(record, found, known, folder)


class Tags(HTMLParser):
    """Names of all tags, and addresses in them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names, self.addresses = [], []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.names.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "onload", "onclick")]


def test_it_says_what_moved_since_when_how_sure_and_what_was_decided(known: Normal, tmp_path: Path) -> None:
    page = drawn(tmp_path, known, "because of 1 < 2")
    assert "2026-01-08" in page and "Decided: watch" in page and "because of 1 &lt; 2" in page
    assert "amount_unexplained" in page and page.count('<tr class="moved">') >= 1
    assert "estimated 0." in page and "realised 0.400" in page
    assert len(page.encode()) < 500_000


def test_it_is_one_file_and_runs_nothing(known: Normal, tmp_path: Path) -> None:
    found = Tags(drawn(tmp_path, known, EVIL))
    assert "script" not in found.names and not found.addresses
    assert found.names.count("svg") >= 5


def test_bars_are_shares_of_the_reference_and_of_the_window(known: Normal, tmp_path: Path) -> None:
    drawn(tmp_path, known)
    shapes = drift_page.shapes(known, tmp_path / f"{FIRST + 3}-1.json", ["score"])
    assert shapes[0]["name"] == "score" and shapes[0]["moved"] and not shapes[1]["moved"]
    for shape in shapes:
        assert len(shape["bars"]) <= drift_page.BARS
        for which in ("usual", "now"):
            assert sum(bar[which] for bar in shape["bars"]) == pytest.approx(1.0)


def test_a_window_that_was_not_judged_has_a_page_too() -> None:
    last = {
        "window": 3,
        "rows": 5,
        "version": 0,
        "skipped": "5 rows are too few.",
        "findings": [],
        "moved": [],
        "faults": [],
        "estimate": None,
        "usual": None,
        "news": [],
    }
    record = {
        "id": "a",
        "case": "a",
        "window": 3,
        "version": 0,
        "action": "none",
        "reasons": [],
        "metric": "accuracy",
        "policy": {},
        "model": "",
        "report": "",
    }
    page = drift_page.drawn(
        record, {"windows": [last], "incidents": [], "realised": {}, "tfdv": {}}, None, Path("nowhere")
    )
    assert "too few" in page and "No incident so far" in page
