"""Measure peak memory and time of ways to read a split: ``python -m tour.measure.peak_memory``, with JSON on stdin.

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.checkout import ROOT

if TYPE_CHECKING:
    import numpy as np

    from tour.measure.reading_ladder import Split

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
        [sys.executable, "-m", "tour.measure.peak_memory"],
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
    for batch in {"numpy": load_all_into_numpy, "streamed": reading_ladder.streamed, "kept": reading_ladder.full}[way](
        split
    ):
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


def load_all_into_numpy(split: "Split") -> Iterator[dict[str, "np.ndarray"]]:
    """Load everything into NumPy, then yield batches by shuffled index; the memory limits the data.

    Question: B24
    Answer: Loading everything is fine while the data fits into memory; small data is even faster that way, because it
        is parsed once. But memory grows with the data, often several times over through copies. The first step waits
        for the last row, every worker holds a full copy, and a tf.function that captures the array puts it into the
        graph. Shards with tf.data need only a few buffers, whatever the size. So I measure what fits and stream beyond
        that.
    Evidence: tour.evidence.data.input_speed.arrays_and_streams
    Proof: tests/tour/evidence/test_input_speed.py::test_arrays_grow_with_the_data_and_streams_do_not
    """
    import numpy as np

    from models.input import load

    rows = load(split.paths, split.transform, split.keep)
    order = np.random.default_rng(split.seed).permutation(len(next(iter(rows.values()))))
    for start in range(0, len(order) - split.batch_size + 1, split.batch_size):
        yield {name: values[order[start : start + split.batch_size]] for name, values in rows.items()}


def _peak_bytes() -> int:
    """Peak resident memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB


if __name__ == "__main__":
    main()
