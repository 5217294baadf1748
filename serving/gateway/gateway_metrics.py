"""What the gateway counts, in Prometheus' format."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

Metric = TypeVar("Metric", Counter, Gauge, Histogram)

SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
DIFFERENCES = (0.0001, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
STATES = {"closed": 0, "half-open": 1, "open": 2}


class Metrics:
    """The gateway's metrics, in a registry of their own. ``of`` gives those of a case, with their labels filled in."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._make(Counter, "gateway_requests", "Answers by HTTP status.", "case", "status")
        self.seconds = self._make(
            Histogram, "gateway_request_seconds", "Time to a scored answer.", "case", buckets=SECONDS
        )
        self.decisions = self._make(Counter, "gateway_decisions", "Decisions.", "case", "version", "arm", "decision")
        self.labels = self._make(Counter, "gateway_labels", "Labels by what became of them.", "case", "outcome")
        self.waiting = self._make(Gauge, "gateway_log_waiting", "Records that wait for the disk.", "case")
        self.records = self._make(Counter, "gateway_log_records", "Records on disk.", "case")
        self.groups = self._make(Counter, "gateway_log_groups", "Writes and fsyncs that put them there.", "case")
        self.breaker = self._make(Gauge, "gateway_breaker", "0 closed, 1 half-open, 2 open.", "case")
        self.history = self._make(
            Gauge, "gateway_history_breaker", "As gateway_breaker, of the history's store.", "case"
        )
        self.histories = self._make(
            Counter, "gateway_history", "Calls of the history's store by outcome.", "case", "outcome"
        )
        self.live = self._make(Gauge, "gateway_version", "Version by arm; -1 for the newest.", "case", "arm")
        self.shadows = self._make(Counter, "gateway_shadow", "Shadow requests by outcome.", "case", "outcome")
        self.difference = self._make(
            Histogram, "gateway_shadow_difference", "Shadow's score against the answer.", "case", buckets=DIFFERENCES
        )
        self.incidents = self._make(Gauge, "drift_incidents", "Incidents that are open.", "case", "kind")
        self.windows = self._make(Gauge, "drift_window", "The last window that is over.", "case")
        self.moved = self._make(
            Gauge, "drift_moved", "Largest effect in that window of columns that moved.", "case", "column"
        )
        self.faults = self._make(Gauge, "drift_fault", "Share of rows with a fault.", "case", "column", "kind")
        self.metric = self._make(
            Gauge, "drift_metric", "The metric: usual, or estimated without labels.", "case", "what"
        )
        self.late = self._make(Gauge, "drift_late_rows", "Rows that came after their window was over.", "case")
        self._before: list[Callable[[], None]] = []

    def _make(self, kind: type[Metric], name: str, text: str, *labels: str, **more: Any) -> Metric:
        return kind(name, text, labels, registry=self.registry, **more)

    def before(self, refresh: Callable[[], None]) -> None:
        """Has ``refresh`` called before every exposition, to set gauges."""
        self._before.append(refresh)

    def drifted(self, case: str, state: Mapping[str, Any]) -> None:
        """Sets the gauges of drift from the state that a case's monitor has written."""
        last, incidents = state["windows"][-1], state["judge"]["incidents"]["seen"]
        self.windows.labels(case).set(last["window"])
        self.late.labels(case).set(state["late"])
        for kind in ("drift", "quality"):
            self.incidents.labels(case, kind).set(
                sum(one["kind"] == kind and one["state"] == "open" for one in incidents)
            )
        for gauge in (self.moved, self.faults):  # what has gone is not shown as if it were there
            for labels in [one for one in gauge._metrics if one[0] == case]:
                gauge.remove(*labels)
        for column in last["moved"]:
            largest = max(one["effect"] for one in last["findings"] if one["column"] == column)
            self.moved.labels(case, column).set(largest)
        for fault in last["faults"]:
            self.faults.labels(case, fault["column"], fault["kind"]).set(fault["share"])
        for what in ("usual", "estimate"):
            if last[what]:
                self.metric.labels(case, what).set(last[what]["value"])

    def text(self) -> bytes:
        """The exposition."""
        for refresh in self._before:
            refresh()
        return generate_latest(self.registry)
