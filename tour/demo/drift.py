"""The drift of the demonstration: injected into the traffic, detected, answered by a retraining, and swapped in."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.use_case import UseCase
from pipeline.home import Home
from pipeline.local.progress import ProgressTable
from pipeline.monitoring import decisions
from pipeline.run import Run
from serving.drift.profiles.watched_columns import VERSION
from serving.drift.profiles.windows import format_window
from serving.gateway.history.online_store import PREDICTIONS
from serving.gateway.log.log_files import LogPosition, next_position, read_log
from serving.gateway.log.tf_example import decode
from tour.demo import demo_traffic
from tour.demo.playthrough import Playthrough


def play_drift(play: Playthrough, case: UseCase, gateway: Mapping[str, Any]) -> bool:
    """Play the drift to its end: a swap, or a refused retraining.

    Returns:
        Whether it ended in one of the two without a failed request.
    """
    scenario = demo_traffic.load_scenario(play, case)
    result: dict[str, Any] = {"injected": list(scenario.drift)}
    play.report.summary["drift"][case.name] = result
    if answer := find_answer(play, case):
        play.report.print_line(f"{case.name}: a retraining has answered the drift before, so it is not injected again.")
        result |= describe_outcome(case, *answer) | {"before": True}
        play.report.print_line(result["line"])
        return True
    with play.report.time_part(f"{case.name}: traffic with {' and '.join(scenario.drift)}"):
        if not demo_traffic.send_days(play, case, gateway, scenario, scenario.drifted):
            return False
    with play.report.time_part(f"{case.name}: detected by the monitor of the gateway"):
        result["incidents"] = wait_for_incidents(play.home, case, play.collaborators.notice_timeout)
        for incident in result["incidents"]:
            causes = ", ".join(incident["causes"])
            since = format_window(incident["opened"], bool(case.time))
            play.report.print_line(f"incident {incident['id']}: {incident['kind']} since {since}: {causes}")
    return bool(result["incidents"]) and _retrain_under_traffic(play, case, scenario, result)


def _retrain_under_traffic(play: Playthrough, case: UseCase, scenario: Any, result: dict[str, Any]) -> bool:
    """Check for drift, decide and retrain while requests keep coming; add the outcome to the result."""
    part = play.report.time_part(f"{case.name}: decision and retraining under traffic")
    with part, demo_traffic.keep_sending(play, case, scenario) as child:
        decision, run = monitor_and_retrain(play, case)
        if run is not None and run.state == "pushed":
            result["swap_seconds"] = wait_for_swap(play, case, run)
        all_valid = demo_traffic.finish_sending(play, case, child)
    if decision is None or run is None:
        reasons = " ".join(decision.record["reasons"]) if decision else "no window has ended"
        result["line"] = f"no retraining: {reasons}"
    else:
        result |= describe_outcome(case, decision, run)
    play.report.print_line(result["line"])
    ended = run is not None and (run.state == "refused" or result.get("swap_seconds") is not None)
    return all_valid and ended


def monitor_and_retrain(play: Playthrough, case: UseCase) -> tuple[decisions.StoredDecision | None, Run | None]:
    """Run the monitoring pipeline once, and the retraining if one is due; return the last decision and the run.

    Raises:
        KeyboardInterrupt: if the retraining was interrupted.
    """
    assert case.policy is not None, "only cases with a policy are played"
    policy = case.policy.with_changes(case.load("demo").POLICY)
    with ProgressTable(play.report.console) as stages:
        decision, run = play.collaborators.monitor_once(case, policy, play.runtime, stages.report)
    if run is not None and run.state == "interrupted":
        raise KeyboardInterrupt
    if decision is None:  # no new window has ended: an interrupted attempt decided on the retraining that is due
        decision = next(reversed(play.collaborators.read_decisions(play.runtime, case.name)), None)
    for reason in decision.record["reasons"] if decision else ():
        play.report.print_line(f"  {reason}")
    if run is not None:
        play.report.print_line(f"{run.state}: {run.reason}")
    return decision, run


def find_answer(play: Playthrough, case: UseCase) -> tuple[decisions.StoredDecision, Run] | None:
    """Return the last retraining that was decided and ended, with its decision; None if there is none."""
    by_id = {
        decision.id: decision
        for decision in play.collaborators.read_decisions(play.runtime, case.name)
        if decision.record["action"] in decisions.TRAINING_ACTIONS
    }
    runs = [run for run in play.read_runs(case, "pushed", "refused") if run.decision in by_id]
    return (by_id[runs[-1].facts["decision"]], runs[-1]) if runs else None


def wait_for_incidents(home: Path, case: UseCase, timeout: float) -> list[dict[str, Any]]:
    """Return the drift incidents that the gateway's monitor has opened; empty if it opens none in time."""
    deadline = time.monotonic() + timeout
    while not (incidents := _read_drift_incidents(home, case)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return incidents


def _read_drift_incidents(home: Path, case: UseCase) -> list[dict[str, Any]]:
    try:
        state = json.loads(Home(home).case(case.name).monitor_state.read_text())
    except FileNotFoundError:
        return []
    return [incident for incident in state["judge"]["incidents"]["seen"] if incident["kind"] == "drift"]


def wait_for_swap(play: Playthrough, case: UseCase, run: Run) -> float | None:
    """Wait until the gateway answers with the pushed version; return the seconds waited, None after the timeout.

    The newest record of the prediction log names the version that answered.
    """
    started, position, version = time.monotonic(), LogPosition(0, 0), run.version
    timeout, log = play.collaborators.swap_timeout, Home(play.home).case(case.name).online / PREDICTIONS
    while True:
        newest = None
        for place, record in read_log(log, position):
            position, newest = next_position(place, record), record
        seconds = time.monotonic() - started
        if newest is not None and decode(newest, (VERSION,))[VERSION][0] == version:
            play.report.print_line(f"version {version} answers {seconds:.1f} s after the end of its run")
            time.sleep(play.collaborators.settle_seconds)
            return round(seconds, 1)
        if seconds >= timeout:
            play.report.print_line(f"version {version} does not answer {timeout:.0f} s after its push")
            return None
        time.sleep(0.1)


def describe_outcome(case: UseCase, decision: decisions.StoredDecision, run: Run) -> dict[str, Any]:
    """Return decision, run, a one-line summary, and the metric of the new and the old model on the same rows."""
    record, metrics, metric = decision.record, run.metrics, case.headline
    window = format_window(record["window"], bool(case.time))
    outcome: dict[str, Any] = {
        "decision": {**record, "page": str(decision.folder / decisions.PAGE)},
        "run": asdict(run),
        "line": f"{record['action']} decided after {window}, {run.state}: {run.reason}",
    }
    if metric in metrics and f"{metric}_diff" in metrics:
        now, before = metrics[metric], metrics[metric] - metrics[f"{metric}_diff"]
        rows = int(metrics["example_count"])
        outcome["metric"] = {"name": metric, "before": round(before, 4), "after": round(now, 4), "rows": rows}
        outcome["line"] += f"; {metric} on {rows} rows after the drift: {before:.4f} before, {now:.4f} now"
    return outcome
