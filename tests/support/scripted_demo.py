"""Fake collaborators of the demonstration: they record each call and write the records of the real ones."""

import io
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.catalog import CASES
from models.fraud.generator.span_generator import generate
from models.retraining_policy import RetrainingPolicy
from models.use_case import UseCase
from pipeline.home import Home
from pipeline.metadata import store
from pipeline.monitoring import decisions
from pipeline.online.replay import TrafficOptions
from pipeline.run import Run
from pipeline.runtime import Runtime
from serving.drift.gateway_monitor import STATE_FILE
from serving.gateway.history.online_store import PREDICTIONS
from support.drift_case import append_records, encode_record, generate_day
from tour.demo.collaborators import Collaborators
from tour.demo.refusal import UNTRAINED

DATA = {"rows": 200, "days": 10, "data_seed": 3, "label_delay_days": 7}
METRICS = {"pr_auc": 0.6, "pr_auc_diff": 0.25, "example_count": 800.0}
INCIDENT = {"id": 1, "kind": "drift", "opened": 12, "causes": ["amount"]}
NOTICED_AFTER = 20  # day of fraud traffic after which the scripted monitor opens its incident


def report_traffic(version: int = 1, sent: int = 7, failed: int = 0) -> dict[str, Any]:
    """Return the report of a replay, as the traffic command prints it."""
    return {
        "sent": sent,
        "failed": failed,
        "labels": sent,
        "versions": {str(version): sent},
        "milliseconds": {"p99": 3.0},
    }


class ScriptedChild:
    """A child process that prints its report on SIGTERM, like ``showcase traffic``."""

    def __init__(self, text: str) -> None:
        self.stdout, self.returncode = io.StringIO(text), None

    def send_signal(self, number: int) -> None:
        assert number == signal.SIGTERM
        self.returncode = 0

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        assert self.returncode is not None, "the demonstration waited before it sent SIGTERM"
        return self.returncode


class ScriptedSystem:
    """The system that the demonstration controls.

    Attributes:
        calls: Each call with its target, in order.
        changes: Changed settings of the last pipeline run of each use case.
        child: The last child process that was started.
        interrupt_at: Call that raises KeyboardInterrupt.
        first_run: Final state of first trainings.
        retraining: Final state of the retraining; empty for a decision not to retrain.
        failed_requests: Number of failed requests of each replay.
        swaps: Whether the gateway loads a pushed version.
        notices: Whether the monitor of the gateway opens an incident.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.calls: list[str] = []
        self.changes: dict[str, dict[str, str]] = {}
        self.child: ScriptedChild | None = None
        self.interrupt_at, self.first_run, self.retraining = "", "pushed", "pushed"
        self.failed_requests, self.swaps, self.notices = 0, True, True
        self._decisions: list[decisions.StoredDecision] = []

    def collaborators(self) -> Collaborators:
        return Collaborators(
            run_pipeline=self._run_pipeline,
            serve_models=self._serve_models,
            show_tour=lambda home, report: self._call("tour"),
            replay_traffic=self._replay_traffic,
            start_process=self._start_process,
            monitor_once=self._monitor_once,
            read_decisions=lambda runtime, case: self._decisions if case == "fraud" else [],
            notice_timeout=0.0,
            swap_timeout=0.0,
            settle_seconds=0.0,
        )

    def _call(self, what: str) -> None:
        self.calls.append(what)
        if self.interrupt_at == what:
            raise KeyboardInterrupt

    def save_run(self, case: str, state: str, **facts: str) -> Run:
        """Write a run's record to the home's metadata store."""
        metadata = Home(self.home).metadata
        settings = json.dumps({"data": DATA if case == "fraud" else {}})
        source = self.home / "data" / "first"
        if case == "fraud" and not source.exists():
            generate(source, rows=DATA["rows"], days=DATA["days"], seed=DATA["data_seed"])
        run_id = f"{case}-{len(store.runs(metadata))}"
        facts = {"settings": settings, "source": str(source), "version": "1"} | facts
        run = Run(run_id, case, state, f"{state} so", "f", facts)
        store.save(metadata, run)
        return run

    def _run_pipeline(self, case: str, home: Path, changes: dict[str, str], **options: Any) -> Run:
        assert home == self.home and case in CASES and not options["as_json"] and options["tracking"] == "none"
        untrained = UNTRAINED.items() <= changes.items()
        self.changes[case] = changes
        self._call(f"{'refuse' if untrained else 'run'} {case}")
        return self.save_run(case, "refused" if untrained else self.first_run)

    @contextmanager
    def _serve_models(self, home: Path, report: object) -> Iterator[dict[str, Any]]:
        self._call("serve")
        try:
            yield {"host": "127.0.0.1", "gateway": 1}
        finally:
            self.calls.append("stop serving")

    def _replay_traffic(self, request: TrafficOptions) -> dict[str, Any]:
        assert request.address == "127.0.0.1:1"
        self._call(f"{request.case} {request.first}")
        if request.case == "fraud" and request.first == NOTICED_AFTER and self.notices:
            state = self.home / "fraud" / "online" / STATE_FILE
            state.parent.mkdir(parents=True, exist_ok=True)
            state.write_text(json.dumps({"judge": {"incidents": {"seen": [INCIDENT]}}}))
        return report_traffic(failed=self.failed_requests)

    def _start_process(self, words: list[object], log: Path) -> ScriptedChild:
        self._call("keep sending")
        self.child = ScriptedChild(json.dumps(report_traffic(version=2)))
        return self.child

    def _monitor_once(
        self, case: UseCase, policy: RetrainingPolicy, runtime: Runtime, report: object
    ) -> tuple[decisions.StoredDecision, Run | None]:
        self._call("monitor")
        assert (policy.learn, policy.spans) == (10, 70), "the demonstration's own policy"
        assert self.child is not None and self.child.poll() is None, "requests continue meanwhile"
        action = "retrain" if self.retraining else "wait"
        decision = {"id": "fraud-39", "action": action, "window": 39, "reasons": ["It lost much."]}
        self._decisions = [decisions.StoredDecision(self.home, decision)]
        if not self.retraining:
            return self._decisions[0], None
        metrics = json.dumps(METRICS)
        run = self.save_run(case.name, self.retraining, version="2", decision="fraud-39", metrics=metrics)
        if self.retraining == "pushed" and self.swaps:
            append_records(
                self.home / case.name / "online" / PREDICTIONS, [encode_record(generate_day(0), 0, version=2)]
            )
        return self._decisions[0], run
