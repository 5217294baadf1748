"""Incident *schema*: in some spans half of the purchases have a category that is not in the schema."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from models.catalog import find_use_case
from pipeline.local import processes
from tour.incidents import scratch
from tour.incidents.incident import EventKind, IncidentEvent, IncidentFailedError, LiveSystem

CASE, FEATURE = "fraud", "category"
ROWS, DAYS, BROKEN = 8_000, 40, 10
SETTINGS = ("warmup_days=5", "embedding_epochs=1", "batch_size=64")


def run(live: LiveSystem) -> Iterator[IncidentEvent]:
    """Run the pipeline of a scratch home on spans that are broken from one day on; its DataGate stops the run."""
    with scratch.make_folder(live) as home:
        yield IncidentEvent(
            f"From day {BROKEN} of {DAYS} on, half of the purchases have a {FEATURE} that is not in the schema.", "bad"
        )
        find_use_case(CASE).load("data").generate(
            home / "spans", ROWS, DAYS, 7, [f"unseen:0.5@{BROKEN}"], lambda done, total: None
        )
        words = ["run", CASE, "--home", home, "--data", home / "spans", "--tracking", "none", "--json"]
        with scratch.run_child(
            [*words, *(word for setting in SETTINGS for word in ("--set", setting))], home / "run.log"
        ) as process:
            yield from follow_stages(home / "run.log", process)
            outcome = json.loads(processes.output(process).read() or "{}")
        if outcome.get("state") != "refused" or FEATURE not in outcome["reason"]:
            raise IncidentFailedError(
                f"The run was not refused for '{FEATURE}': {outcome.get('state')}: {outcome.get('reason')}"
            )
        yield IncidentEvent(f"Refused. {outcome['reason']}", "good", {"stage": outcome["reason"].partition(":")[0]})
        pushed = list(Path(home, CASE, "versions").glob("*"))
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
