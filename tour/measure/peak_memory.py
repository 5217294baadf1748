"""Peak memory and time of ways to read a split, each in a process of its own: ``python -m tour.measure.peak_memory`` with JSON.

Each way runs in a fork that is made after the imports and before TensorFlow has started a thread, so nobody pays twice for
them. It first reads a batch of one shard: what that takes does not depend on the data and is not counted.
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
    """One way on one size.

    Attributes:
        way: One of :data:`WAYS`.
        times: How many times the shards were read as if they were so much data.
        rows: Rows that came.
        first: Seconds to the first batch.
        seconds: Seconds of one pass.
        bytes: Peak over that of reading one batch of one shard.
    """

    way: str
    times: int
    rows: int
    first: float
    seconds: float
    bytes: int


def measured(
    graph: str, paths: Sequence[str], keep: Sequence[str], batch_size: int, ways: Sequence[str], times: Sequence[int]
) -> list[Peak]:
    """A peak for each way and size.

    Raises:
        RuntimeError: if a way failed, with the last line of what it wrote.
    """
    told = {
        "graph": graph,
        "paths": list(paths),
        "keep": list(keep),
        "batch_size": batch_size,
        "ways": list(ways),
        "times": list(times),
    }
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-m", "tour.measure.peak_memory"],
        input=json.dumps(told),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        timeout=TIMEOUT,
    )
    if done.returncode:
        raise RuntimeError(f"Memory could not be measured: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
    return [Peak(**one) for one in json.loads(done.stdout.splitlines()[-1])]


def main() -> None:
    """Reads what to measure from standard input, writes the peaks as one line of JSON."""
    told = json.load(sys.stdin)
    # Imported before the forks: each of them then has it for nothing.
    from tour.measure import reading_ladder  # noqa: F401

    peaks = [forked(partial(one, told, way, times)) for way in told["ways"] for times in told["times"]]
    print(json.dumps(peaks))


def forked(call: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """What the call returns in a child process."""
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
        raise RuntimeError(f"A way of reading ended with status {os.waitstatus_to_exitcode(status)}.")
    return json.loads(text)


def one(told: Mapping[str, Any], way: str, times: int) -> dict[str, Any]:
    """One pass over ``times`` times the shards."""
    from models import input as reading
    from tour.measure import reading_ladder

    split = reading_ladder.Split(
        told["paths"] * times, reading.Transform(told["graph"]), told["keep"], told["batch_size"]
    )
    next(iter(reading.dataset(split.paths[:1], split.transform, split.keep)))
    before = _most()
    started, first, rows = time.perf_counter(), 0.0, 0
    for batch in {"numpy": arrays, "streamed": reading_ladder.streamed, "kept": reading_ladder.full}[way](split):
        first = first or time.perf_counter() - started
        rows += reading_ladder.count(batch)
    seconds = time.perf_counter() - started
    return {
        "way": way,
        "times": times,
        "rows": rows,
        "first": first,
        "seconds": seconds,
        "bytes": _most() - before,
    }


def arrays(split: "Split") -> Iterator[dict[str, "np.ndarray"]]:
    """Everything in NumPy first, then batches by shuffled index: what is easily written and ends with the memory.

    Question: B24
    Answer: Loading everything is fine while it fits, and small data is then even quicker, as it is parsed once. But memory
        grows with the data, often several times over through copies, the first step waits for the last row, every worker
        holds it all, and a tf.function that captures the array puts it in the graph. Shards and tf.data hold a few buffers,
        whatever the size. Measure what fits, and stream beyond it.
    Evidence: tour.evidence.data.input_speed.arrays_and_streams
    Proof: tests/tour/evidence/test_input_speed.py::test_arrays_grow_with_the_data_and_streams_do_not
    """
    import numpy as np

    from models.input import load

    rows = load(split.paths, split.transform, split.keep)
    order = np.random.default_rng(split.seed).permutation(len(next(iter(rows.values()))))
    for start in range(0, len(order) - split.batch_size + 1, split.batch_size):
        yield {name: values[order[start : start + split.batch_size]] for name, values in rows.items()}


def _most() -> int:
    """Bytes that this process held at its peak so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB


if __name__ == "__main__":
    main()
