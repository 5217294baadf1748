"""Seconds of calls on this machine."""

import statistics
import time
from collections.abc import Callable
from typing import Any


def measure_seconds(call: Callable[[], Any]) -> float:
    """Measure one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def median_seconds(call: Callable[[], Any], seconds: float) -> float:
    """Median of the calls that fit into ``seconds``, at least one, after a first call that does not count."""
    call()
    times: list[float] = []
    ends = time.perf_counter() + seconds
    while not times or time.perf_counter() < ends:
        times.append(measure_seconds(call))
    return statistics.median(times)
