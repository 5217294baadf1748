"""Counters and histograms under TensorFlow Serving's names, in Prometheus' text format.

Written by hand: the client library insists on names that end in ``_total``, which TensorFlow Serving's do not.
"""

from bisect import bisect_left
from collections.abc import Iterator

PREFIX = ":tensorflow:serving:"
LATENCY = tuple(10 * 1.8**n for n in range(33))
SIZES = tuple(float(2**n) for n in range(12))
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = tuple[tuple[str, str], ...]


class Histogram:
    """Counts by bucket, and the sum."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds, self.counts, self.sum = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        """Counts a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Metrics:
    """What the server has done."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str], int] = {}
        self.latency: dict[tuple[str, str, str], Histogram] = {}
        self.batches: dict[str, Histogram] = {}
        self.loads: dict[tuple[str, str], int] = {}
        self.load_seconds: dict[str, float] = {}

    def request(self, model: str, api: str, entrypoint: str, status: str, seconds: float) -> None:
        """A request has been answered, or refused with that status."""
        key = (model, status)
        self.requests[key] = self.requests.get(key, 0) + 1
        if status == "OK":
            found = self.latency.get((model, api, entrypoint))
            if found is None:
                found = self.latency[model, api, entrypoint] = Histogram(LATENCY)
            found.add(seconds * 1e6)

    def batch(self, model: str, rows: int) -> None:
        """So many rows were run together."""
        found = self.batches.get(model)
        if found is None:
            found = self.batches[model] = Histogram(SIZES)
        found.add(rows)

    def load(self, model: str, status: str, seconds: float) -> None:
        """A version was loaded, or not."""
        self.loads[model, status] = self.loads.get((model, status), 0) + 1
        self.load_seconds[model] = self.load_seconds.get(model, 0.0) + seconds

    def text(self) -> bytes:
        """All of it."""
        return ("\n".join(self._lines()) + "\n").encode()

    def _lines(self) -> Iterator[str]:
        yield from _head("request_count", "counter", "Requests by model and status.")
        for (model, status), count in sorted(self.requests.items()):
            yield _line("request_count", (("model_name", model), ("status", status)), count)
        yield from _head("request_latency", "histogram", "Microseconds of a request that was answered.")
        for (model, api, entrypoint), found in sorted(self.latency.items()):
            labels = (("model_name", model), ("API", api), ("entrypoint", entrypoint))
            yield from _histogram("request_latency", labels, found)
        yield from _head("batching:processed_batch_size", "histogram", "Rows that were run together.")
        for model, found in sorted(self.batches.items()):
            yield from _histogram("batching:processed_batch_size", (("model_name", model),), found)
        yield from _head("load_attempt_count", "counter", "Loads of versions by model and status.")
        for (model, status), count in sorted(self.loads.items()):
            yield _line("load_attempt_count", (("model_name", model), ("status", status)), count)
        yield from _head("load_latency", "counter", "Microseconds spent on loading, warm-up included.")
        for model, seconds in sorted(self.load_seconds.items()):
            yield _line("load_latency", (("model_name", model),), round(seconds * 1e6))


def _histogram(name: str, labels: Labels, found: Histogram) -> Iterator[str]:
    total = 0
    for bound, count in zip((*found.bounds, None), found.counts, strict=True):
        total += count
        le = "+Inf" if bound is None else f"{bound:g}"
        yield _line(f"{name}_bucket", (*labels, ("le", le)), total)
    yield _line(f"{name}_sum", labels, found.sum)
    yield _line(f"{name}_count", labels, total)


def _head(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {PREFIX}{name} {text}"
    yield f"# TYPE {PREFIX}{name} {kind}"


def _line(name: str, labels: Labels, value: float) -> str:
    return f"{PREFIX}{name}{{{','.join(f'{key}={_quoted(text)}' for key, text in labels)}}} {value}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
