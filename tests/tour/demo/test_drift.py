"""Waiting for the gateway's monitor and for the swap, on files as the gateway writes them."""

import json
from pathlib import Path

import pytest
from rich.console import Console
from support.drift_case import append_records, encode_record, generate_day
from support.scripted_demo import INCIDENT, ScriptedSystem

from models.catalog import find_use_case
from serving.drift.gateway_monitor import STATE_FILE
from serving.gateway.history.online_store import PREDICTIONS
from tour.demo.drift import wait_for_incidents, wait_for_swap
from tour.demo.playthrough import Playthrough
from tour.demo.report import DemoReport


def test_only_drift_incidents_are_returned(tmp_path: Path) -> None:
    fraud = find_use_case("fraud")
    assert wait_for_incidents(tmp_path, fraud, timeout=0.0) == []
    state = tmp_path / "fraud" / "online" / STATE_FILE
    state.parent.mkdir(parents=True)
    state.write_text(json.dumps({"judge": {"incidents": {"seen": [INCIDENT, INCIDENT | {"kind": "fault"}]}}}))
    assert wait_for_incidents(tmp_path, fraud, timeout=0.0) == [INCIDENT]


@pytest.mark.parametrize(("version", "swapped"), [(1, False), (2, True)])
def test_swap_is_detected_in_the_newest_logged_prediction(
    tmp_path: Path, capsys: pytest.CaptureFixture, version: int, swapped: bool
) -> None:
    system = ScriptedSystem(tmp_path)
    play = Playthrough(tmp_path, DemoReport(Console()), collaborators=system.collaborators())
    rows, log = generate_day(0), tmp_path / "fraud" / "online" / PREDICTIONS
    append_records(log, [encode_record(rows, 0, version=3 - version), encode_record(rows, 1, version=version)])
    run = system.save_run("fraud", "pushed", version="2")
    assert (wait_for_swap(play, find_use_case("fraud"), run) is not None) == swapped
    assert ("version 2 answers" in capsys.readouterr().out) == swapped
