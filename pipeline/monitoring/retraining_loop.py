"""Monitoring loop: from new windows of the prediction log to a decision, and to a retraining through the same gates."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models import spans
from models.retraining_policy import RetrainingPolicy
from models.use_case import UseCase
from pipeline import session
from pipeline.local.progress import Report
from pipeline.metadata import store
from pipeline.monitoring import collected_spans, decisions
from pipeline.monitoring.sidecar import window_cut
from pipeline.plan import RunRequest, make_plan
from pipeline.run import Run
from pipeline.runtime import Runtime
from serving import rollout
from serving.drift.profiles.windows import WindowAssigner, Windowing
from serving.gateway.history.online_store import LABELS, PREDICTIONS
from serving.gateway.log.log_files import LogPosition, next_position, read_log
from serving.gateway.log.tf_example import decode

FIRST_READING: dict[str, Any] = {"next": [0, 0], "labels_to": [0, 0], "last": -1}


class MonitoringFailedError(OSError):
    """A stage of the monitoring pipeline failed."""


class NothingServedError(ValueError):
    """No version has been pushed, so there is nothing to monitor."""


def run_monitor_once(
    case: UseCase, policy: RetrainingPolicy, runtime: Runtime, report: Report
) -> tuple[decisions.StoredDecision | None, Run | None]:
    """Process new windows, decide, and retrain if the decision calls for it; resume the work of a killed monitor.

    Returns:
        The new decision, if there was a new window, and the retraining run that has ended, if one was due.

    Raises:
        BusyError: if another monitor or run of the case is in progress in this home.
        MonitoringFailedError: naming the stage that failed.
        NothingServedError: if nothing has been pushed.
    """
    with store.exclusive_lock(Path(runtime.root, case.name, "monitor.lock"), f"monitor of {case.name}"):
        base = find_served_run(case, runtime)
        decided = None
        # A pending retraining comes first: newer windows would be judged on a model that is about to be replaced.
        pending = decisions.find_pending_decision(runtime, case.name)
        if pending is None and (stretch := find_unread_windows(case, runtime)):
            _run_monitoring_graph(case, policy, runtime, base, stretch, report)
            decided = decisions.list_decisions(runtime, case.name)[-1]
            pending = decisions.find_pending_decision(runtime, case.name)
        return decided, retrain(case, runtime, pending, base, report) if pending else None


def find_served_run(case: UseCase, runtime: Runtime) -> Run:
    """Return the run that pushed the stable version.

    Raises:
        NothingServedError: if there is none.
    """
    pushed = store.pushed_runs(runtime.metadata, case.name)
    folder = runtime.case(case.name).versions
    stable = rollout.stable_version(folder, rollout.read(folder))
    matching = [run for run in pushed if run.version == stable]
    if not matching:
        raise NothingServedError(
            f"Nothing of {case.name} is pushed under {runtime.root}; `showcase run {case.name}` pushes a first version."
        )
    return matching[-1]


def find_unread_windows(case: UseCase, runtime: Runtime) -> dict[str, Any] | None:
    """Return the unread part of the log if it completes a window, else None.

    The fields are described in ``components.monitoring.log_example_gen``.
    """
    past_decisions = decisions.list_decisions(runtime, case.name)
    reading, folder = (
        past_decisions[-1].record["reading"] if past_decisions else FIRST_READING,
        runtime.case(case.name).online,
    )
    stretch = scan_log(folder / PREDICTIONS, window_cut(case), LogPosition(*reading["next"]), reading["last"])
    if stretch is None:
        return None
    labels = LogPosition(*reading["labels_to"])
    for position, record in read_log(folder / LABELS, labels):
        labels = next_position(position, record)
    return {**stretch, "labels_from": reading["labels_to"], "labels_to": [labels.file, labels.offset]}


def scan_log(folder: Path, log_cut: Windowing, begin: LogPosition, closed: int) -> dict[str, Any] | None:
    """Return the positions between which the log holds the completed windows; None if no window is complete."""
    cutter, end, stretch = WindowAssigner(log_cut, closed), begin, None
    for position, record in read_log(folder, begin):
        end = next_position(position, record)
        cutter.take(position, decode(record, (log_cut.time,))[log_cut.time][0] if log_cut.time else None)
        if cutter.over():
            window_start = cutter.since(end)
            stretch = {
                "to": [end.file, end.offset],
                "next": [window_start.file, window_start.offset],
                "last": cutter.closed,
            }
    return stretch and {"from": [begin.file, begin.offset], "closed": closed, **stretch}


def _run_monitoring_graph(
    case: UseCase,
    policy: RetrainingPolicy,
    runtime: Runtime,
    base: Run,
    stretch: Mapping[str, Any],
    report: Report,
) -> None:
    """Run the monitoring pipeline over a part of the log."""
    run_id = session.make_run_id(f"{case.name}-monitor")
    version = base.version
    assert version is not None, "a served run pushed a version"
    logs = runtime.case(case.name).logs / run_id
    past_decisions = decisions.list_decisions(runtime, case.name)
    with session.redirect_stderr(logs / "run.log"):
        _, runner, _ = session.import_tfx_modules()
        from pipeline.monitoring import monitoring_graph

        monitoring_pass = monitoring_graph.MonitoringPass(
            case=case,
            log=str(runtime.case(case.name).online),
            stretch=stretch,
            cut=window_cut(case),
            versions=str(runtime.case(case.name).versions),
            model=store.outputs(runtime.metadata, base.id)["Pusher"]["pushed_model"].uri,
            served=version,
            policy=asdict(policy),
            unseen=count_unseen_spans(case, policy, base),
            report=past_decisions[-1].record["report"] if past_decisions else "",
            decision=str(past_decisions[-1].folder) if past_decisions else "",
        )
        ir = runner.compile_graph(monitoring_graph.build(monitoring_pass), f"{case.name}/monitor", runtime, run_id)
        progress = runner.run(ir, runtime, logs, report)
    failures = [
        f"{name}: {stage.message}"
        for name, stage in progress.items()
        if stage.state not in ("done", "cached", "waiting")
    ]
    if failures or any(stage.state == "waiting" for stage in progress.values()):
        raise MonitoringFailedError(
            f"The monitor of {case.name} failed, {'; '.join(failures)}; see the logs in {logs}."
        )


def count_unseen_spans(case: UseCase, policy: RetrainingPolicy, base: Run) -> int:
    """Return the number of last spans in a window that a retraining with the policy's settings does not train on."""
    return case.load("data").unseen(base.settings["data"] | _parse_changes(case, policy.settings)["data"])


def _parse_changes(case: UseCase, changes: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return only the changed settings, by group, converted to their types."""
    settings = case.configure(changes)
    return {group: {name: values[name] for name in changes if name in values} for group, values in settings.items()}


def retrain(case: UseCase, runtime: Runtime, decision: decisions.StoredDecision, base: Run, report: Report) -> Run:
    """Execute or resume the run that a decision calls for, with the same data, settings and gates as a manual run."""
    base = _run_of_decision(case, runtime, decision, base)
    source = collected_spans.collect(case, runtime, decision, base)
    first, last = choose_spans(case, decision.record["policy"]["spans"], source, base)
    refresh = decision.record["action"] == "refresh"
    changes = (
        find_changed_settings(case, base, ("data", "gates") if refresh else tuple(case.settings))
        | decision.record["policy"]["settings"]
    )
    request = RunRequest(case, str(source), first, last, changes, refresh=refresh, decision=decision.id)
    return session.execute(make_plan(request, runtime), runtime, False, report)


def _run_of_decision(case: UseCase, runtime: Runtime, decision: decisions.StoredDecision, base: Run) -> Run:
    """Return the run that pushed the version served at the time of the decision, whatever has been pushed since."""
    version = int(decision.record["served"])
    matching = [
        run for run in store.runs(runtime.metadata, case.name) if run.state == "pushed" and run.version == version
    ]
    return matching[-1] if matching else base


def choose_spans(case: UseCase, length: int, source: Path, base: Run) -> tuple[int, int]:
    """Return the first and last span to train on: the newest spans, as many as the policy or the base run has.

    A case without event time is trained on all spans, unless the policy sets a length.
    """
    available = spans.find_spans(source)
    first, last = base.window
    if not length and not case.time:
        return min(available), max(available)
    return max(min(available), max(available) + 1 - (length or last + 1 - first)), max(available)


def find_changed_settings(case: UseCase, base: Run, groups: tuple[str, ...]) -> dict[str, str]:
    """Return the settings of a run that differ from the defaults, as text for ``--set``."""
    run_settings = base.settings
    return {
        name: _as_text(run_settings[group][name])
        for group in groups
        for name, default in case.settings[group].items()
        if run_settings[group].get(name, default) != default
    }


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
