"""The drift page: self-contained, small, and free of data that a browser would execute."""

import json
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.drift_case import CUT, FIRST, log_days, save_profiles

from components.monitoring import drift_page
from serving.drift.gateway_monitor import GatewayMonitor, profile_records
from serving.drift.reference.reference_profile import ReferenceProfile
from serving.gateway.log.log_files import read_log

EVIL = '<script>alert("x")</script>'


def render(folder: Path, drift_profile: ReferenceProfile, reason: str = "why") -> str:
    """Render the page of the last of several days, of which the last two have drifted."""
    save_profiles(folder / "versions", drift_profile)
    log_days(folder / "predictions", 0, 1, 2)
    log_days(folder / "predictions", 3, 4, factor=1.4)
    live = GatewayMonitor("tiny", folder, folder / "versions", CUT, [])
    windows = [json.loads(json.dumps(asdict(verdict))) for verdict in live.step()]
    rows = [data for _, data in read_log(folder / "predictions")][3 * 400 : 4 * 400]
    (folder / f"{FIRST + 3}-1.json").write_bytes(profile_records(drift_profile, rows).profile.to_bytes())
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
    report = {
        "windows": windows,
        "incidents": live.judge.incidents.to_json()["seen"],
        "realised": {str(FIRST): {"value": 0.4, "error": 0.1, "rows": 9}},
        "tfdv": {str(FIRST + 3): [{"feature": EVIL, "comparator": "skew", "measure": "linf", "value": 0.5}]},
    }
    return drift_page.render_drift_page(record, report, drift_profile, folder)


class Tags(HTMLParser):
    """Names of all tags, and their addresses and event handlers."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names, self.addresses = [], []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.names.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "onload", "onclick")]


def test_page_shows_decision_drift_and_metric(drift_profile: ReferenceProfile, tmp_path: Path) -> None:
    page = render(tmp_path, drift_profile, "because of 1 < 2")
    assert "2026-01-08" in page and "Decision: watch" in page and "because of 1 &lt; 2" in page
    assert "amount_unexplained" in page and page.count('<tr class="moved">') >= 1
    assert "estimated 0." in page and "realised 0.400" in page
    assert len(page.encode()) < 500_000


def test_page_is_self_contained_and_escapes_data(drift_profile: ReferenceProfile, tmp_path: Path) -> None:
    tags = Tags(render(tmp_path, drift_profile, EVIL))
    assert "script" not in tags.names and not tags.addresses
    assert tags.names.count("svg") >= 5


def test_bars_are_shares_of_the_reference_and_of_the_window(drift_profile: ReferenceProfile, tmp_path: Path) -> None:
    render(tmp_path, drift_profile)
    shapes = drift_page.column_bars(drift_profile, tmp_path / f"{FIRST + 3}-1.json", ["score"])
    assert shapes[0]["name"] == "score" and shapes[0]["moved"] and not shapes[1]["moved"]
    for shape in shapes:
        assert len(shape["bars"]) <= drift_page.BARS
        for which in ("usual", "now"):
            assert sum(bar[which] for bar in shape["bars"]) == pytest.approx(1.0)


def test_window_that_was_not_judged_is_rendered() -> None:
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
    page = drift_page.render_drift_page(
        record, {"windows": [last], "incidents": [], "realised": {}, "tfdv": {}}, None, Path("nowhere")
    )
    assert "too few" in page and "No incident so far" in page
