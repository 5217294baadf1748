"""Counters and histograms under TensorFlow Serving's names, in Prometheus' text format.

The text is formatted here because Prometheus' client library requires counter names to end in ``_total``, and TensorFlow
Serving's do not.
"""

from bisect import bisect_left
from collections.abc import Iterator

PREFIX = ":tensorflow:serving:"
LATENCY = tuple(10 * 1.8**n for n in range(33))
SIZES = tuple(float(2**n) for n in range(12))
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = tuple[tuple[str, str], ...]


class Histogram:
    """Histogram of observed values: counts by bucket, and the sum."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds, self.counts, self.sum = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        """Observe a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class ServerMetrics:
    """Metrics of the model server: requests, latency, batch sizes and loads."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str], int] = {}
        self.latency: dict[tuple[str, str, str], Histogram] = {}
        self.batches: dict[str, Histogram] = {}
        self.loads: dict[tuple[str, str], int] = {}
        self.load_seconds: dict[str, float] = {}

    def request(self, model: str, api: str, entrypoint: str, status: str, seconds: float) -> None:
        """Count a request by its gRPC status; observe the latency of a successful one."""
        key = (model, status)
        self.requests[key] = self.requests.get(key, 0) + 1
        if status == "OK":
            histogram = self.latency.get((model, api, entrypoint))
            if histogram is None:
                histogram = self.latency[model, api, entrypoint] = Histogram(LATENCY)
            histogram.add(seconds * 1e6)

    def batch(self, model: str, rows: int) -> None:
        """Observe the number of rows of a batch."""
        histogram = self.batches.get(model)
        if histogram is None:
            histogram = self.batches[model] = Histogram(SIZES)
        histogram.add(rows)

    def load(self, model: str, status: str, seconds: float) -> None:
        """Count an attempt to load a version, with its status and duration."""
        self.loads[model, status] = self.loads.get((model, status), 0) + 1
        self.load_seconds[model] = self.load_seconds.get(model, 0.0) + seconds

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return ("\n".join(self._lines()) + "\n").encode()

    def _lines(self) -> Iterator[str]:
        yield from _format_header("request_count", "counter", "Requests by model and status.")
        for (model, status), count in sorted(self.requests.items()):
            yield _format_sample("request_count", (("model_name", model), ("status", status)), count)
        yield from _format_header("request_latency", "histogram", "Latency of successful requests in microseconds.")
        for (model, api, entrypoint), histogram in sorted(self.latency.items()):
            labels = (("model_name", model), ("API", api), ("entrypoint", entrypoint))
            yield from _format_histogram("request_latency", labels, histogram)
        yield from _format_header("batching:processed_batch_size", "histogram", "Rows per batch.")
        for model, histogram in sorted(self.batches.items()):
            yield from _format_histogram("batching:processed_batch_size", (("model_name", model),), histogram)
        yield from _format_header("load_attempt_count", "counter", "Attempts to load a version by model and status.")
        for (model, status), count in sorted(self.loads.items()):
            yield _format_sample("load_attempt_count", (("model_name", model), ("status", status)), count)
        yield from _format_header(
            "load_latency", "counter", "Microseconds spent on loading versions, including warm-up."
        )
        for model, seconds in sorted(self.load_seconds.items()):
            yield _format_sample("load_latency", (("model_name", model),), round(seconds * 1e6))


def _format_histogram(name: str, labels: Labels, histogram: Histogram) -> Iterator[str]:
    total = 0
    for bound, count in zip((*histogram.bounds, None), histogram.counts, strict=True):
        total += count
        le = "+Inf" if bound is None else f"{bound:g}"
        yield _format_sample(f"{name}_bucket", (*labels, ("le", le)), total)
    yield _format_sample(f"{name}_sum", labels, histogram.sum)
    yield _format_sample(f"{name}_count", labels, total)


def _format_header(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {PREFIX}{name} {text}"
    yield f"# TYPE {PREFIX}{name} {kind}"


def _format_sample(name: str, labels: Labels, value: float) -> str:
    return f"{PREFIX}{name}{{{','.join(f'{key}={_quote(text)}' for key, text in labels)}}} {value}"


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
