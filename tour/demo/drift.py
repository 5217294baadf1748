"""The drift of the demonstration: put into the traffic, noticed beside the gateway, decided on, trained for and swapped in."""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.use_case import UseCase
from pipeline import decisions, monitor, store
from pipeline import runtime as runtimes
from pipeline.watch import Watch
from serving.drift.live import STATE
from serving.drift.watched import VERSION
from serving.gateway.log_files import Place, after, read
from serving.gateway.online_store import PREDICTIONS
from serving.gateway.wire import decode
from tour.demo import traffic

if TYPE_CHECKING:
    from tour.demo.story import Story

NOTICED = 300.0  # seconds that the monitor beside the gateway has, behind everything else on a busy machine
SWAPPED = 120.0
SETTLED = 2.0  # seconds of traffic after the swap


def drift(story: "Story", case: UseCase, place: Mapping[str, Any]) -> bool:
    """Plays the drift to its end, a swap or a refusal; whether it came to one, with no request failed on the way."""
    what = traffic.shown(story.home, case)
    told = story.told["drift"][case.name] = {"injected": list(what.drift)}
    if done := answered(story.home, case):
        story.say(f"{case.name}: the drift was answered before and is not put in again.")
        told |= _outcome(case, *done) | {"before": True}
        story.say(told["line"])
        return True
    with story.part(f"{case.name}: traffic with {' and '.join(what.drift)}"):
        if not traffic.days(story, case, place, what, what.drifted):
            return False
    with story.part(f"{case.name}: noticed by the monitor beside the gateway"):
        told["incidents"] = noticed(story.home, case)
        for one in told["incidents"]:
            story.say(f"incident {one['id']}: {one['kind']} since window {one['opened']}: {', '.join(one['causes'])}")
    return bool(told["incidents"]) and _answered(story, case, what, told)


def _answered(story: "Story", case: UseCase, what: Any, told: dict[str, Any]) -> bool:
    part = story.part(f"{case.name}: judged, decided and trained again, with traffic all the while")
    with part, traffic.constant(story, case, what) as child:
        decision, run = looked(story, case)
        if run is not None and run.state == "pushed":
            told["swap_seconds"] = _swapped(story, case, run)
        right = traffic.closed(story, case, child)
    if run is None:
        told["line"] = "no retraining: " + (" ".join(decision.record["reasons"]) if decision else "no window was over")
        story.say(told["line"])
        return False
    told |= _outcome(case, decision, run)
    story.say(told["line"])
    swapped = run.state == "refused" or told["swap_seconds"] is not None
    return right and swapped and run.state in ("pushed", "refused")


def looked(story: "Story", case: UseCase) -> tuple[decisions.Decided | None, store.Run | None]:
    """The monitoring pipeline, and the retraining if one is due.

    Raises:
        KeyboardInterrupt: if the retraining was interrupted.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    runtime = runtimes.local(story.home, story.tracking)
    policy = case.policy.changed(case.load("demo").POLICY)
    with Watch(story.console) as stages:
        decided, run = monitor.once(case, policy, runtime, stages.report)
    if run is not None and run.state == "interrupted":
        raise KeyboardInterrupt
    past = decisions.all_of(runtime, case.name)
    decided = decided or (past[-1] if past else None)
    for reason in decided.record["reasons"] if decided else ():
        story.say(f"  {reason}")
    if run is not None:
        story.say(f"{run.state}: {run.reason}")
    return decided, run


def answered(home: Path, case: UseCase) -> tuple[decisions.Decided, store.Run] | None:
    """The last decision to train and the run that has ended for it, if there is such a pair."""
    runtime = runtimes.local(home)
    acts = {one.id: one for one in decisions.all_of(runtime, case.name) if one.record["action"] in decisions.ACTS}
    ended = [run for run in store.runs(runtime.metadata, case.name) if run.state in ("pushed", "refused")]
    mine = [run for run in ended if run.facts.get("decision") in acts]
    return (acts[mine[-1].facts["decision"]], mine[-1]) if mine else None


def noticed(home: Path, case: UseCase, seconds: float = NOTICED) -> list[dict[str, Any]]:
    """Incidents of drift that the monitor beside the gateway has opened, once there is one; none if none comes in time."""
    path, until = home / case.name / "online" / STATE, time.monotonic() + seconds
    while time.monotonic() < until:
        if path.exists():
            seen = json.loads(path.read_text())["judge"]["incidents"]["seen"]
            if found := [one for one in seen if one["kind"] == "drift"]:
                return found
        time.sleep(0.2)
    return []


def _swapped(story: "Story", case: UseCase, run: store.Run) -> float | None:
    """Seconds until the traffic is answered by the pushed version; None if it is not."""
    began, place, version = time.monotonic(), Place(0, 0), int(run.facts["version"])
    while time.monotonic() - began < SWAPPED:
        record = None
        for at, record in read(story.home / case.name / "online" / PREDICTIONS, place):
            place = after(at, record)
        if record is not None and decode(record, (VERSION,))[VERSION][0] == version:
            took = time.monotonic() - began
            story.say(f"version {version} answers {took:.1f} s after its run has ended")
            time.sleep(SETTLED)
            return round(took, 1)
        time.sleep(0.1)
    story.say(f"version {version} does not answer {SWAPPED:.0f} s after its push")
    return None


def _outcome(case: UseCase, decision: decisions.Decided, run: store.Run) -> dict[str, Any]:
    """Decision, run, and the metric of the new and the old model on the same days after the drift."""
    metrics, name = json.loads(run.facts.get("metrics", "{}")), case.headline
    found: dict[str, Any] = {
        "decision": {**decision.record, "page": str(decision.folder / decisions.PAGE)},
        "run": asdict(run),
    }
    line = f"{decision.record['action']} decided after window {decision.record['window']}, {run.state}: {run.reason}"
    if name in metrics and f"{name}_diff" in metrics:
        now, before = metrics[name], metrics[name] - metrics[f"{name}_diff"]
        rows = int(metrics["example_count"])
        found["metric"] = {"name": name, "before": round(before, 4), "after": round(now, 4), "rows": rows}
        line += f"; {name} on {rows} rows after the drift: {before:.4f} before, {now:.4f} now"
    return found | {"line": line}
