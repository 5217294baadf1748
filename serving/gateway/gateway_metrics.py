"""The gateway's Prometheus metrics."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

Metric = TypeVar("Metric", Counter, Gauge, Histogram)

SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
DIFFERENCES = (0.0001, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
STATES = {"closed": 0, "half-open": 1, "open": 2}


class GatewayMetrics:
    """The gateway's metrics, in their own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._make(Counter, "gateway_requests", "Responses by HTTP status.", "case", "status")
        self.seconds = self._make(
            Histogram, "gateway_request_seconds", "Seconds until a score is returned.", "case", buckets=SECONDS
        )
        self.decisions = self._make(Counter, "gateway_decisions", "Decisions.", "case", "version", "arm", "decision")
        self.invalid = self._make(
            Counter, "gateway_invalid_outputs", "Model outputs that are not numbers.", "case", "version"
        )
        self.repeats = self._make(
            Counter, "gateway_repeats", "Requests whose id was answered before, by outcome.", "case", "outcome"
        )
        self.labels = self._make(Counter, "gateway_labels", "Late labels by outcome.", "case", "outcome")
        self.waiting = self._make(Gauge, "gateway_log_waiting", "Records waiting to be written to disk.", "case")
        self.records = self._make(Counter, "gateway_log_records", "Records on disk.", "case")
        self.groups = self._make(Counter, "gateway_log_groups", "Group writes, each with one fsync.", "case")
        self.breaker = self._make(
            Gauge, "gateway_breaker", "Model's circuit breaker: 0 closed, 1 half-open, 2 open.", "case"
        )
        self.history = self._make(
            Gauge, "gateway_history_breaker", "History store's circuit breaker: 0 closed, 1 half-open, 2 open.", "case"
        )
        self.histories = self._make(
            Counter, "gateway_history", "Calls to the history store by outcome.", "case", "outcome"
        )
        self.live = self._make(Gauge, "gateway_version", "Served version by arm; -1 for the newest.", "case", "arm")
        self.shadows = self._make(Counter, "gateway_shadow", "Shadow requests by outcome.", "case", "outcome")
        self.difference = self._make(
            Histogram,
            "gateway_shadow_difference",
            "Absolute difference of the shadow's score.",
            "case",
            buckets=DIFFERENCES,
        )
        self.incidents = self._make(Gauge, "drift_incidents", "Open drift incidents.", "case", "kind")
        self.windows = self._make(Gauge, "drift_window", "Last complete window.", "case")
        self.moved = self._make(
            Gauge, "drift_moved", "Largest effect size of a drifted column in the last window.", "case", "column"
        )
        self.faults = self._make(Gauge, "drift_fault", "Fraction of rows with a data fault.", "case", "column", "kind")
        self.metric = self._make(
            Gauge, "drift_metric", "Model metric: reference value, or estimate without labels.", "case", "what"
        )
        self.late = self._make(Gauge, "drift_late_rows", "Rows that arrived after their window closed.", "case")
        self._refreshes: list[Callable[[], None]] = []

    def _make(self, kind: type[Metric], name: str, text: str, *labels: str, **options: Any) -> Metric:
        return kind(name, text, labels, registry=self.registry, **options)

    def add_refresh(self, refresh: Callable[[], None]) -> None:
        """Call ``refresh`` before every scrape, to set gauges."""
        self._refreshes.append(refresh)

    def set_drift(self, case: str, state: Mapping[str, Any]) -> None:
        """Set the drift gauges from the state that the case's monitor wrote."""
        last, incidents = state["windows"][-1], state["judge"]["incidents"]["seen"]
        self.windows.labels(case).set(last["window"])
        self.late.labels(case).set(state["late"])
        for kind in ("drift", "quality"):
            self.incidents.labels(case, kind).set(
                sum(incident["kind"] == kind and incident["state"] == "open" for incident in incidents)
            )
        for gauge in (self.moved, self.faults):  # drop the series of columns that have recovered
            for labels in [labels for labels in gauge._metrics if labels[0] == case]:
                gauge.remove(*labels)
        for column in last["moved"]:
            largest = max(finding["effect"] for finding in last["findings"] if finding["column"] == column)
            self.moved.labels(case, column).set(largest)
        for fault in last["faults"]:
            self.faults.labels(case, fault["column"], fault["kind"]).set(fault["share"])
        for what in ("usual", "estimate"):
            if last[what]:
                self.metric.labels(case, what).set(last[what]["value"])

    def text(self) -> bytes:
        """Return the metrics in Prometheus's text format."""
        for refresh in self._refreshes:
            refresh()
        return generate_latest(self.registry)
