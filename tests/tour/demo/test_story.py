"""The order of the demonstration's parts, its exit codes, and that it resumes where it was interrupted."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from support.scripted_demo import INCIDENT, ScriptedSystem

from models.catalog import CASES
from tour.demo import story

DRIFT = ["concept:0.8@12", "amount:1.3@12"]
USUAL_DAYS = [f"fraud {day}" for day in range(10, 12)]
DRIFTED_DAYS = [f"fraud {day}" for day in range(12, 12 + 32)]


@pytest.fixture
def system(tmp_path: Path) -> ScriptedSystem:
    return ScriptedSystem(tmp_path)


def play(system: ScriptedSystem, headless: bool = True, changes: Mapping[str, str] = MappingProxyType({})) -> int:
    return story.play_demo(system.home, headless, "none", changes, system.collaborators())


def play_headless(system: ScriptedSystem, capsys: pytest.CaptureFixture) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON summary."""
    code = play(system)
    return code, json.loads(capsys.readouterr().out)


def test_parts_are_played_in_order_until_the_swap(system: ScriptedSystem, capsys: pytest.CaptureFixture) -> None:
    code, summary = play_headless(system, capsys)
    assert code == 0 and summary["ok"] and summary["failed"] == 0
    traffic = [*USUAL_DAYS, "image -1", *DRIFTED_DAYS, "keep sending"]
    assert system.calls == ["run fraud", "run image", "serve", *traffic, "monitor", "refuse image", "stop serving"]
    assert system.child.poll() == 0


def test_summary_contains_metrics_before_and_after_the_retraining(
    system: ScriptedSystem, capsys: pytest.CaptureFixture
) -> None:
    _, summary = play_headless(system, capsys)
    drift = summary["drift"]["fraud"]
    assert drift["injected"] == DRIFT and drift["incidents"] == [INCIDENT]
    assert drift["metric"] == {"name": "pr_auc", "before": 0.35, "after": 0.6, "rows": 800}
    assert drift["decision"]["action"] == "retrain" and drift["run"]["state"] == "pushed" and drift["swap_seconds"] >= 0
    assert summary["traffic"]["fraud"]["versions"] == {"1": 34 * 7, "2": 7}
    assert summary["refused"]["state"] == "refused" and [run["case"] for run in summary["runs"]] == list(CASES)
    assert len(summary["parts"]) == 7 and summary["seconds"] >= 0


def test_each_use_case_gets_only_its_own_settings(system: ScriptedSystem) -> None:
    system.first_run = "failed"
    play(system, changes={"rows": "500", "filters": "4", "epochs": "2", "image.epochs": "3", "fraud.width": "24"})
    fraud = {"rows": "500", "epochs": "2", "width": "24"}
    assert system.changes == {"fraud": fraud, "image": {"filters": "4", "epochs": "3"}}


@pytest.mark.parametrize("name", ["speed", "fraud.speed", "image.rows", "other.epochs"])
def test_unknown_setting_is_refused(system: ScriptedSystem, name: str) -> None:
    with pytest.raises(ValueError, match=f"No use case has a setting '{name}'"):
        play(system, changes={name: "1"})
    assert not system.calls


def test_refused_retraining_succeeds_without_a_swap(system: ScriptedSystem, capsys: pytest.CaptureFixture) -> None:
    system.retraining = "refused"
    code, summary = play_headless(system, capsys)
    drift = summary["drift"]["fraud"]
    assert code == 0 and drift["run"]["state"] == "refused" and "swap_seconds" not in drift


def test_nothing_is_served_if_a_first_training_is_not_pushed(
    system: ScriptedSystem, capsys: pytest.CaptureFixture
) -> None:
    system.first_run = "failed"
    code, summary = play_headless(system, capsys)
    assert code == 1 and not summary["ok"] and system.calls == ["run fraud", "run image"]


@pytest.mark.parametrize(
    ("fault", "value"),
    [("failed_requests", 1), ("notices", False), ("swaps", False), ("retraining", ""), ("retraining", "failed")],
)
def test_failed_part_gives_exit_code_1_and_the_others_are_played(
    system: ScriptedSystem, capsys: pytest.CaptureFixture, fault: str, value: object
) -> None:
    setattr(system, fault, value)
    code, summary = play_headless(system, capsys)
    assert code == 1 and not summary["ok"] and (summary["failed"] > 0) == (fault == "failed_requests")
    assert system.calls[-2:] == ["refuse image", "stop serving"], "the other parts are played nevertheless"


def test_second_playthrough_repeats_neither_training_nor_drift(
    system: ScriptedSystem, capsys: pytest.CaptureFixture
) -> None:
    play_headless(system, capsys)
    system.calls.clear()
    code, summary = play_headless(system, capsys)
    assert code == 0 and system.calls == ["run image", "serve", "image -1", "stop serving"]
    drift = summary["drift"]["fraud"]
    assert drift["before"] and drift["injected"] == DRIFT and drift["metric"]["after"] == 0.6


@pytest.mark.parametrize(
    "part", ["run image", "serve", "fraud 11", "image -1", "fraud 20", "keep sending", "monitor", "refuse image"]
)
def test_interrupted_playthrough_ends_its_processes_and_is_resumed(
    system: ScriptedSystem, capsys: pytest.CaptureFixture, part: str
) -> None:
    system.interrupt_at = part
    assert play(system) == 130 and capsys.readouterr().out == ""
    assert system.child is None or system.child.poll() is not None
    assert system.calls[-1] == "stop serving" or part in ("run image", "serve")
    sent_days = {call for call in system.calls if call.startswith("fraud ") and call != part}
    system.interrupt_at, played = "", len(system.calls)
    assert play(system) == 0
    assert not sent_days & set(system.calls[played:])


def test_interactive_playthrough_prints_every_step_and_shows_the_tour(
    system: ScriptedSystem, capsys: pytest.CaptureFixture
) -> None:
    assert play(system, headless=False) == 0
    assert system.calls[-2:] == ["tour", "stop serving"]
    printed = capsys.readouterr().out
    for text in (
        "incident 1: drift since 1970-01-13: amount",
        "It lost much.",
        "0.3500 before, 0.6000 now",
        "meets the gates",
        "Every part succeeded",
        "failed requests: 0",
    ):
        assert text in printed, printed
