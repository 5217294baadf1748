"""What the gateway counts, in Prometheus' format."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

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
        self.history = self._make(Gauge, "gateway_history_breaker", "As gateway_breaker, of the history's store.", "case")
        self.histories = self._make(Counter, "gateway_history", "Calls of the history's store by outcome.", "case", "outcome")
        self.live = self._make(Gauge, "gateway_version", "Version by arm; -1 for the newest.", "case", "arm")
        self.shadows = self._make(Counter, "gateway_shadow", "Shadow requests by outcome.", "case", "outcome")
        self.difference = self._make(
            Histogram, "gateway_shadow_difference", "Shadow's score against the answer.", "case", buckets=DIFFERENCES
        )
        self._before: list[Callable[[], None]] = []

    def _make(self, kind: type, name: str, text: str, *labels: str, **more: object) -> object:
        return kind(name, text, labels, registry=self.registry, **more)

    def before(self, refresh: Callable[[], None]) -> None:
        """Has ``refresh`` called before every exposition, to set gauges."""
        self._before.append(refresh)

    def text(self) -> bytes:
        """The exposition."""
        for refresh in self._before:
            refresh()
        return generate_latest(self.registry)
