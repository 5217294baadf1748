"""From what is new in the prediction log to a decision, and from a decision to a retraining through the usual gates."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models import spans
from models.retraining_policy import Policy
from models.use_case import UseCase
from pipeline import session
from pipeline.metadata import store
from pipeline.monitoring import collected_spans, decisions
from pipeline.monitoring.sidecar import cut
from pipeline.plan import Request, make_plan
from pipeline.progress import Report
from pipeline.runtime import Runtime
from serving import rollout
from serving.drift.profiles.windows import Cut, Cutter
from serving.gateway.history.online_store import LABELS, PREDICTIONS
from serving.gateway.log.log_files import Place, after, read
from serving.gateway.log.tf_example import decode

BEGIN: dict[str, Any] = {"next": [0, 0], "labels_to": [0, 0], "last": -1}


class FailedError(OSError):
    """A stage of the monitoring pipeline did not end well."""


class NothingServedError(ValueError):
    """No version has been pushed that could be watched."""


def once(
    case: UseCase, policy: Policy, runtime: Runtime, report: Report
) -> tuple[decisions.Decided | None, store.Run | None]:
    """Looks at windows that are new, decides, and trains if that was decided; goes on where a killed one has stopped.

    Returns:
        The new decision, if there was a new window, and the run that has ended, if one was due.

    Raises:
        BusyError: if another monitor or run of the case is under way in this home.
        FailedError: naming the stage that failed.
        NothingServedError: if nothing has been pushed.
    """
    with store.alone(Path(runtime.root, case.name, "monitor.lock"), f"monitor of {case.name}"):
        base = served(case, runtime)
        decided = None
        # What was decided before comes first: a look at newer windows would decide on a model that is about to go.
        due = decisions.undone(runtime, case.name)
        if due is None and (stretch := new(case, runtime)):
            _look(case, policy, runtime, base, stretch, report)
            decided = decisions.all_of(runtime, case.name)[-1]
            due = decisions.undone(runtime, case.name)
        return decided, trained(case, runtime, due, base, report) if due else None


def served(case: UseCase, runtime: Runtime) -> store.Run:
    """The run that pushed what is served.

    Raises:
        NothingServedError: if there is none.
    """
    pushed = [run for run in store.runs(runtime.metadata, case.name) if run.state == "pushed"]
    folder = Path(runtime.versions(case.name))
    stable = rollout.stable(folder, rollout.read(folder))
    mine = [run for run in pushed if run.facts.get("version") == str(stable)]
    if not mine:
        raise NothingServedError(
            f"Nothing of {case.name} is pushed under {runtime.root}; `showcase run {case.name}` does it."
        )
    return mine[-1]


def new(case: UseCase, runtime: Runtime) -> dict[str, Any] | None:
    """Which part of the log is new, if a window is over in it; see ``components.monitoring.log_example_gen``."""
    past = decisions.all_of(runtime, case.name)
    reading, folder = past[-1].record["reading"] if past else BEGIN, Path(runtime.root, case.name, "online")
    found = scanned(folder / PREDICTIONS, cut(case), Place(*reading["next"]), reading["last"])
    if found is None:
        return None
    labels = Place(*reading["labels_to"])
    for place, record in read(folder / LABELS, labels):
        labels = after(place, record)
    return {**found, "labels_from": reading["labels_to"], "labels_to": [labels.file, labels.offset]}


def scanned(folder: Path, how: Cut, begin: Place, closed: int) -> dict[str, Any] | None:
    """From where to where the log has to be read for the windows that are over; None if none is."""
    cutter, end, found = Cutter(how, closed), begin, None
    for place, record in read(folder, begin):
        end = after(place, record)
        cutter.take(place, decode(record, (how.time,))[how.time][0] if how.time else None)
        if cutter.over():
            since = cutter.since(end)
            found = {"to": [end.file, end.offset], "next": [since.file, since.offset], "last": cutter.closed}
    return found and {"from": [begin.file, begin.offset], "closed": closed, **found}


def _look(
    case: UseCase, policy: Policy, runtime: Runtime, base: store.Run, stretch: Mapping[str, Any], report: Report
) -> None:
    """Runs the monitoring pipeline over a stretch of the log."""
    run_id = session.name(f"{case.name}-monitor")
    logs = Path(runtime.root, case.name, "logs", run_id)
    past = decisions.all_of(runtime, case.name)
    with session.stderr_to(logs / "run.log"):
        _, runner, _ = session.imported()
        from pipeline.monitoring import monitoring_graph

        look = monitoring_graph.Pass(
            case,
            str(Path(runtime.root, case.name, "online")),
            stretch,
            cut(case),
            runtime.versions(case.name),
            store.outputs(runtime.metadata, base.id)["Pusher"]["pushed_model"].uri,
            int(base.facts["version"]),
            asdict(policy),
            unseen(case, policy, base),
            past[-1].record["report"] if past else "",
            str(past[-1].folder) if past else "",
        )
        ir = runner.compiled(monitoring_graph.build(look), f"{case.name}/monitor", runtime, run_id)
        progress = runner.run(ir, runtime, logs, report)
    wrong = [
        f"{name}: {one.message}" for name, one in progress.items() if one.state not in ("done", "cached", "waiting")
    ]
    if wrong or any(one.state == "waiting" for one in progress.values()):
        raise FailedError(f"The monitor of {case.name} failed, {'; '.join(wrong)}; {logs} has the whole story.")


def unseen(case: UseCase, policy: Policy, base: store.Run) -> int:
    """Last spans of a window that a retraining by the policy would not look at."""
    return case.load("data").unseen(json.loads(base.facts["settings"])["data"] | _read(case, policy.settings)["data"])


def _read(case: UseCase, changes: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The changed settings alone, by group, each as the type it has."""
    settings = case.configured(changes)
    return {group: {name: values[name] for name in changes if name in values} for group, values in settings.items()}


def trained(case: UseCase, runtime: Runtime, due: decisions.Decided, base: store.Run, report: Report) -> store.Run:
    """The run that a decision asks for, or goes on with it: the same data, settings and gates as by hand."""
    base = _before(case, runtime, due, base)
    source = collected_spans.collect(case, runtime, due, base)
    first, last = spans_of(case, due.record["policy"]["spans"], source, base)
    refresh = due.record["action"] == "refresh"
    changes = (
        changed(case, base, ("data", "gates") if refresh else tuple(case.settings)) | due.record["policy"]["settings"]
    )
    request = Request(case, str(source), first, last, changes, refresh=refresh, decision=due.id)
    return session.execute(make_plan(request, runtime), runtime, False, report)


def _before(case: UseCase, runtime: Runtime, due: decisions.Decided, base: store.Run) -> store.Run:
    """The run that had pushed what was served when it was decided, whatever has been pushed since."""
    version = str(due.record["served"])
    mine = [
        one
        for one in store.runs(runtime.metadata, case.name)
        if one.state == "pushed" and one.facts["version"] == version
    ]
    return mine[-1] if mine else base


def spans_of(case: UseCase, length: int, source: Path, base: store.Run) -> tuple[int, int]:
    """First and last span to train on: up to the newest, as long as the policy says, or as the base's, or all without time."""
    there = spans.find(source)
    first, last = map(int, base.facts["spans"].split(":"))
    if not length and not case.time:
        return min(there), max(there)
    return max(min(there), max(there) + 1 - (length or last + 1 - first)), max(there)


def changed(case: UseCase, base: store.Run, groups: tuple[str, ...]) -> dict[str, str]:
    """The settings of a run that are not the defaults, as they would be given to the command."""
    told = json.loads(base.facts["settings"])
    return {
        name: _as_text(told[group][name])
        for group in groups
        for name, default in case.settings[group].items()
        if told[group].get(name, default) != default
    }


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
