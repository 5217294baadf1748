"""The served engine on this machine: batching, XLA and quantisation against the same requests, and where the time goes."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tour.evidence.context import Context
from tour.evidence.result_types import NotHere, Number, Result, Table

if TYPE_CHECKING:
    import numpy as np

# Answers a batch: the outputs in one order.
Way = Callable[[Mapping[str, Any]], Sequence[Any]]
SIGNATURE = "dense"
SIZES = (1, 8, 64)
SECONDS = 0.08
TRACES = 20
SLOWEST = 8


def optimised(context: Context) -> list[Result]:
    """B19: the served model by way of answering and size of a batch, and the operations that take longest."""
    from serving.server.loading.saved_model_session import SavedModel

    rows = context.rows("eval", context.case.load("model").INPUTS, max(SIZES))
    model = SavedModel(context.served)
    try:
        ways = answering(context.served, model, rows)
        return [latencies(ways, rows), agreement(ways, rows), slowest(model, rows), tensorrt(context.served, rows)]
    finally:
        model.close()


def answering(served: Path, model: Any, rows: Mapping[str, "np.ndarray"]) -> dict[str, Way]:
    """Ways to answer a batch by name, from what a script would do to what the engine does; outputs are in one order."""
    import tensorflow as tf

    from serving.server.loading import litert_signatures

    loaded = tf.saved_model.load(str(served))
    function = loaded.signatures[SIGNATURE]
    door = model.signatures[SIGNATURE]
    compiled = tf.function(lambda inputs: function(**inputs), jit_compile=True)
    feeds = {name: one.tensor for name, one in door.inputs.items()}
    fetches = [one.tensor for one in door.outputs.values()]

    def called(call: Callable[[Any], Any]) -> Way:
        def answer(batch: Mapping[str, Any], model: Any = loaded) -> Sequence[Any]:
            # Bound with it, the loaded model lives as long as the call: a signature keeps no variable.
            return _ordered(call({name: tf.constant(value) for name, value in batch.items()}), door.outputs)

        return answer

    ways: dict[str, Way] = {
        "signature": called(lambda inputs: function(**inputs)),
        "signature, XLA": called(compiled),
        "Session.run": lambda batch: model.session.run(fetches, {feeds[name]: value for name, value in batch.items()}),
        "engine": lambda batch: door.call([batch[name] for name in door.inputs]),
    }
    quick = litert_signatures.preferred(served, {SIGNATURE: door})[SIGNATURE]
    if quick is not door:
        ways["LiteRT, the pushed file"] = lambda batch: quick.call([batch[name] for name in quick.inputs])
    return ways


def latencies(ways: Mapping[str, Way], rows: Mapping[str, "np.ndarray"]) -> Table:
    """Median microseconds of a batch, and what a row costs in the largest: what batching brings."""
    found = []
    for name, way in ways.items():
        times = [median(partial(way, {key: value[:size] for key, value in rows.items()})) for size in SIZES]
        found.append(
            (
                name,
                *(round(1e6 * one) for one in times),
                round(1e6 * times[-1] / SIZES[-1], 1),
                round(times[0] * SIZES[-1] / times[-1], 1),
            )
        )
    columns = ("way", *(f"batch of {size}, us" for size in SIZES), f"us a row at {SIZES[-1]}", "gain by batching")
    return Table("Latency of the served network on this machine", columns, tuple(found))


def agreement(ways: Mapping[str, Way], rows: Mapping[str, "np.ndarray"]) -> Table:
    """What each way answers to the first row, and how far its answers are from the signature's."""
    import numpy as np

    answers = {name: way(rows) for name, way in ways.items()}
    exact, found = next(iter(answers.values())), []
    for name, outputs in answers.items():
        first = ", ".join(f"{value:.4g}" for one in outputs for value in np.ravel(one[0]))
        found.append((name, first, max(float(np.abs(a - b).max()) for a, b in zip(outputs, exact, strict=True))))
    return Table("Answers by each way", ("way", "the first row", "largest difference from the signature"), tuple(found))


def slowest(model: Any, rows: Mapping[str, "np.ndarray"]) -> Table:
    """Least microseconds of the operations that take longest, from the session's own trace."""
    import tensorflow as tf

    door = model.signatures[SIGNATURE]
    feeds = {one.tensor: rows[name] for name, one in door.inputs.items()}
    fetches = [one.tensor for one in door.outputs.values()]
    best: dict[str, tuple[str, int]] = {}
    for _ in range(TRACES):
        told = tf.compat.v1.RunMetadata()
        model.session.run(fetches, feeds, tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE), told)
        for stats in (one for device in told.step_stats.dev_stats for one in device.node_stats):
            spent = stats.op_end_rel_micros - stats.op_start_rel_micros
            if spent <= best.get(stats.node_name, ("", spent))[1]:
                best[stats.node_name] = (_kind(stats.timeline_label), spent)
    total = sum(spent for _, spent in best.values()) or 1
    order = sorted(best.items(), key=lambda one: -one[1][1])[:SLOWEST]
    found = tuple(
        (kind, name.rsplit("/", 2)[-2:][0], spent, round(100 * spent / total)) for name, (kind, spent) in order
    )
    return Table(
        f"Slowest of {len(best)} operations, batch of {max(SIZES)}", ("operation", "where", "us", "% of all"), found
    )


def tensorrt(served: Path, rows: Mapping[str, "np.ndarray"]) -> Number | NotHere:
    """Whether the export is converted for a GPU here, or why not."""
    import tempfile

    from tour.measure import tensorrt as converting

    with tempfile.TemporaryDirectory() as folder:
        try:
            converting.convert(str(served), folder, rows)
        except RuntimeError as error:
            return NotHere("TensorRT", str(error))
    return Number("TensorRT", "converted")


def median(call: Callable[[], Any], seconds: float = SECONDS) -> float:
    """Of one call in seconds, after one that is not counted."""
    call()
    times: list[float] = []
    ends = time.perf_counter() + seconds
    while not times or time.perf_counter() < ends:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _ordered(found: Mapping[str, Any], names: Mapping[str, Any]) -> list[Any]:
    return [found[name].numpy() for name in names]


def _kind(label: str) -> str:
    """``name = Kind(inputs)`` to its kind."""
    return label.partition(" = ")[2].partition("(")[0] or label
