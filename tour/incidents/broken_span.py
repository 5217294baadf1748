"""Incident *schema*: some spans have values that are not in the schema."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pipeline.local import processes
from tour.incidents import scratch
from tour.incidents.incident import EventKind, IncidentEvent, IncidentFailedError, LiveSystem

SEED = 7


def run(live: LiveSystem) -> Iterator[IncidentEvent]:
    """Run the pipeline of a scratch home on spans that are broken from one day on; its DataGate stops the run."""
    case = scratch.find_demo_case()
    broken = case.load("demo").BROKEN_SPANS
    with scratch.make_folder(live) as home:
        yield IncidentEvent(f"From day {broken.first_day} of {broken.days} on, {broken.summary}.", "bad")
        change = f"{broken.change}@{broken.first_day}"
        case.load("data").generate(home / "spans", broken.rows, broken.days, SEED, [change], lambda done, total: None)
        words = ["run", case.name, "--home", home, "--data", home / "spans", "--tracking", "none", "--json"]
        settings = [word for setting in broken.settings for word in ("--set", setting)]
        with scratch.run_child([*words, *settings], home / "run.log") as process:
            yield from follow_stages(home / "run.log", process)
            outcome = json.loads(processes.output(process).read() or "{}")
        if outcome.get("state") != "refused" or broken.feature not in outcome["reason"]:
            raise IncidentFailedError(
                f"The run was not refused for '{broken.feature}': {outcome.get('state')}: {outcome.get('reason')}"
            )
        yield IncidentEvent(f"Refused. {outcome['reason']}", "good", {"stage": outcome["reason"].partition(":")[0]})
        pushed = list(Path(home, case.name, "versions").glob("*"))
        yield IncidentEvent(
            f"{len(pushed)} versions were pushed: the served version continues to answer.",
            "good",
            {"pushed": len(pushed)},
        )


def follow_stages(log: Path, process: subprocess.Popen[str]) -> Iterator[IncidentEvent]:
    """Yield an event for each stage of a run when it ends."""
    for line in scratch.follow_log(log, process):
        name, state, *seconds = [*line.split(), "", ""]
        if state in ("done", "cached", "refused", "failed") and seconds[0].replace(".", "").isdigit():
            kind: EventKind = "bad" if state == "failed" else "good" if state == "refused" else "info"
            yield IncidentEvent(f"{name}: {state} after {seconds[0]} s", kind, {"stage": name, "state": state})
