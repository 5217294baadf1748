"""Measure peak memory and time of ways to read a split: ``python -m benchmarks.peak_memory``, with JSON on stdin.

Each way runs in a process of its own, forked after the imports and before TensorFlow starts a thread, so that the
imports happen once. It first reads a batch of one shard: the memory for that does not depend on the data and is not
counted.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pipeline.checkout import ROOT

WAYS = ("streamed", "kept", "numpy")

KIB = 1 << 10
TIMEOUT = 600


@dataclass(frozen=True)
class Peak:
    """Measurement of a way of reading on a size of data.

    Attributes:
        way: One of :data:`WAYS`.
        times: How often the list of shards was repeated, to simulate more data.
        rows: Rows that were read.
        first: Seconds to the first batch.
        seconds: Seconds of one pass.
        bytes: Peak memory minus the peak after one batch of one shard.
    """

    way: str
    times: int
    rows: int
    first: float
    seconds: float
    bytes: int


def measure_peaks(
    graph: str, paths: Sequence[str], keep: Sequence[str], batch_size: int, ways: Sequence[str], times: Sequence[int]
) -> list[Peak]:
    """Measure the peak for each way and size, in a new process.

    Raises:
        RuntimeError: if a way failed; the message has the last line of its standard error.
    """
    request = {
        "graph": graph,
        "paths": list(paths),
        "keep": list(keep),
        "batch_size": batch_size,
        "ways": list(ways),
        "times": list(times),
    }
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.peak_memory"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        timeout=TIMEOUT,
    )
    if process.returncode:
        raise RuntimeError(
            f"Memory could not be measured: {(process.stderr.strip().splitlines() or ['no message on standard error'])[-1]}"
        )
    return [Peak(**peak) for peak in json.loads(process.stdout.splitlines()[-1])]


def main() -> None:
    """Read a request from standard input, write the peaks as one line of JSON."""
    request = json.load(sys.stdin)
    # Imported before the forks, so that none of them imports it again.
    from tour.measure import reading_ladder  # noqa: F401

    peaks = [
        run_in_fork(partial(measure_way, request, way, times)) for way in request["ways"] for times in request["times"]
    ]
    print(json.dumps(peaks))


def run_in_fork(call: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Run the call in a forked child process and return its result."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reads)
            with os.fdopen(writes, "w") as pipe:
                json.dump(call(), pipe)
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(writes)
    with os.fdopen(reads) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError(
            f"The process of a way of reading ended with status {os.waitstatus_to_exitcode(status)}; see standard error."
        )
    return json.loads(text)


def measure_way(request: Mapping[str, Any], way: str, times: int) -> dict[str, Any]:
    """Measure a pass over the shards, repeated ``times`` times."""
    from models import input as reading
    from tour.measure import reading_ladder

    split = reading_ladder.Split(
        request["paths"] * times, reading.Transform(request["graph"]), request["keep"], request["batch_size"]
    )
    next(iter(reading.dataset(split.paths[:1], split.transform, split.keep)))
    before = _peak_bytes()
    started, first, rows = time.perf_counter(), 0.0, 0
    ways = {
        "numpy": reading_ladder.load_all_into_numpy,
        "streamed": reading_ladder.streamed,
        "kept": reading_ladder.full,
    }
    for batch in ways[way](split):
        first = first or time.perf_counter() - started
        rows += reading_ladder.count_rows(batch)
    seconds = time.perf_counter() - started
    return {
        "way": way,
        "times": times,
        "rows": rows,
        "first": first,
        "seconds": seconds,
        "bytes": _peak_bytes() - before,
    }


def _peak_bytes() -> int:
    """Peak resident memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB


if __name__ == "__main__":
    main()
