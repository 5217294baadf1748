"""Incident *schema*: in some spans half of the purchases have a category that is not in the schema."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from models.catalog import find
from pipeline.local import processes
from tour.incidents import scratch
from tour.incidents.incident import Event, FailedError, Kind, Live

CASE, FEATURE = "fraud", "category"
ROWS, DAYS, BROKEN = 8_000, 40, 10
SETTINGS = ("warmup_days=5", "embedding_epochs=1", "batch_size=64")


def run(live: Live) -> Iterator[Event]:
    """Run the pipeline of a scratch home on spans that are broken from one day on; its DataGate stops the run."""
    with scratch.empty(live) as home:
        yield Event(
            f"From day {BROKEN} of {DAYS} on, half of the purchases have a {FEATURE} that is not in the schema.", "bad"
        )
        find(CASE).load("data").generate(
            home / "spans", ROWS, DAYS, 7, [f"unseen:0.5@{BROKEN}"], lambda done, total: None
        )
        words = ["run", CASE, "--home", home, "--data", home / "spans", "--tracking", "none", "--json"]
        with scratch.child(
            [*words, *(word for setting in SETTINGS for word in ("--set", setting))], home / "run.log"
        ) as process:
            yield from stages(home / "run.log", process)
            outcome = json.loads(processes.output(process).read() or "{}")
        if outcome.get("state") != "refused" or FEATURE not in outcome["reason"]:
            raise FailedError(
                f"The run was not refused for '{FEATURE}': {outcome.get('state')}: {outcome.get('reason')}"
            )
        yield Event(f"Refused. {outcome['reason']}", "good", {"stage": outcome["reason"].partition(":")[0]})
        pushed = list(Path(home, CASE, "versions").glob("*"))
        yield Event(
            f"{len(pushed)} versions were pushed: the served version continues to answer.",
            "good",
            {"pushed": len(pushed)},
        )


def stages(log: Path, process: subprocess.Popen[str]) -> Iterator[Event]:
    """Yield an event for each stage of a run when it ends."""
    for line in scratch.lines(log, process):
        name, state, *seconds = [*line.split(), "", ""]
        if state in ("done", "cached", "refused", "failed") and seconds[0].replace(".", "").isdigit():
            kind: Kind = "bad" if state == "failed" else "good" if state == "refused" else "info"
            yield Event(f"{name}: {state} after {seconds[0]} s", kind, {"stage": name, "state": state})
