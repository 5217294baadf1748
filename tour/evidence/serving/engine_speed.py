"""Evidence on serving speed on this machine: batching, XLA and LiteRT on the same rows, and the slowest operations."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tour.evidence.context import Context
from tour.evidence.result_types import NotHere, Number, Result, Table
from tour.measure.timing import median_seconds

if TYPE_CHECKING:
    import numpy as np

# A way to answer a batch; the outputs are in the order of the signature.
Way = Callable[[Mapping[str, Any]], Sequence[Any]]
SIGNATURE = "dense"
SIZES = (1, 8, 64)
SECONDS = 0.08
TRACES = 20
SLOWEST = 8


def serving_latency(context: Context) -> list[Result]:
    """B19: latency of the served model by way of answering and batch size, and the operations that take longest."""
    from serving.server.loading.saved_model_session import SavedModelSession
    from tour.evidence.serving import raw_rows

    rows = context.rows("eval", context.network.INPUTS, max(SIZES))
    model = SavedModelSession(context.served)
    try:
        ways = ways_to_answer(context.served, model, rows)
        return [
            measure_latencies(ways, rows),
            compare_outputs(ways, rows),
            *raw_rows.compare_runtimes(context, model),
            slowest_operations(model, rows),
            try_tensorrt(context.served, rows),
        ]
    finally:
        model.close()


def ways_to_answer(served: Path, model: Any, rows: Mapping[str, "np.ndarray"]) -> dict[str, Way]:
    """Ways to answer a batch, by name: from calling the signature, as a script would, to the serving engine."""
    import tensorflow as tf

    from serving.server.loading import litert_signatures

    loaded = tf.saved_model.load(str(served))
    function = loaded.signatures[SIGNATURE]
    signature = model.signatures[SIGNATURE]
    compiled = tf.function(lambda inputs: function(**inputs), jit_compile=True)
    feeds = {name: spec.tensor for name, spec in signature.inputs.items()}
    fetches = [spec.tensor for spec in signature.outputs.values()]

    def eager_way(call: Callable[[Any], Any]) -> Way:
        def answer(batch: Mapping[str, Any], model: Any = loaded) -> Sequence[Any]:
            # The default argument keeps the loaded model alive: a signature holds no reference to its variables.
            return _ordered(call({name: tf.constant(value) for name, value in batch.items()}), signature.outputs)

        return answer

    ways: dict[str, Way] = {
        "signature": eager_way(lambda inputs: function(**inputs)),
        "signature, XLA": eager_way(compiled),
        "Session.run": lambda batch: model.session.run(fetches, {feeds[name]: value for name, value in batch.items()}),
        "engine": lambda batch: signature.call([batch[name] for name in signature.inputs]),
    }
    lite_signature = litert_signatures.use_litert(served, {SIGNATURE: signature}, prefer=True, raw=False)[SIGNATURE]
    if lite_signature is not signature:
        ways["LiteRT, the pushed file"] = lambda batch: lite_signature.call(
            [batch[name] for name in lite_signature.inputs]
        )
    return ways


def measure_latencies(ways: Mapping[str, Way], rows: Mapping[str, "np.ndarray"]) -> Table:
    """Median microseconds per batch by batch size, microseconds per row in the largest batch, and the gain by batching."""
    latency_rows = []
    for name, way in ways.items():
        times = [
            median_seconds(partial(way, {key: value[:size] for key, value in rows.items()}), SECONDS) for size in SIZES
        ]
        latency_rows.append(
            (
                name,
                *(round(1e6 * seconds) for seconds in times),
                round(1e6 * times[-1] / SIZES[-1], 1),
                round(times[0] * SIZES[-1] / times[-1], 1),
            )
        )
    columns = (
        "way",
        *(f"batch of {size}, us" for size in SIZES),
        f"batch of {SIZES[-1]}, us per row",
        "gain by batching",
    )
    return Table("Latency of the served network on this machine", columns, tuple(latency_rows))


def compare_outputs(ways: Mapping[str, Way], rows: Mapping[str, "np.ndarray"]) -> Table:
    """Outputs of each way for the first row, and its largest difference from the signature over all rows."""
    import numpy as np

    answers = {name: way(rows) for name, way in ways.items()}
    exact, differences = next(iter(answers.values())), []
    for name, outputs in answers.items():
        first = ", ".join(f"{value:.4g}" for output in outputs for value in np.ravel(output[0]))
        differences.append((name, first, max(float(np.abs(a - b).max()) for a, b in zip(outputs, exact, strict=True))))
    return Table(
        "Outputs by way of answering", ("way", "first row", "largest difference from the signature"), tuple(differences)
    )


def slowest_operations(model: Any, rows: Mapping[str, "np.ndarray"]) -> Table:
    """Operations that take longest, by their minimum microseconds over several traces of the session."""
    import tensorflow as tf

    signature = model.signatures[SIGNATURE]
    feeds = {spec.tensor: rows[name] for name, spec in signature.inputs.items()}
    fetches = [spec.tensor for spec in signature.outputs.values()]
    best: dict[str, tuple[str, int]] = {}
    for _ in range(TRACES):
        metadata = tf.compat.v1.RunMetadata()
        model.session.run(
            fetches, feeds, tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE), metadata
        )
        for stats in (node for device in metadata.step_stats.dev_stats for node in device.node_stats):
            micros = stats.op_end_rel_micros - stats.op_start_rel_micros
            if micros <= best.get(stats.node_name, ("", micros))[1]:
                best[stats.node_name] = (_kind(stats.timeline_label), micros)
    total = sum(micros for _, micros in best.values()) or 1
    order = sorted(best.items(), key=lambda item: -item[1][1])[:SLOWEST]
    slowest_rows = tuple(
        (kind, name.rsplit("/", 2)[-2:][0], micros, round(100 * micros / total)) for name, (kind, micros) in order
    )
    return Table(
        f"Slowest of {len(best)} operations for a batch of {max(SIZES)} rows",
        ("operation", "scope", "us", "% of the total"),
        slowest_rows,
    )


def try_tensorrt(served: Path, rows: Mapping[str, "np.ndarray"]) -> Number | NotHere:
    """Convert the export with TensorRT, or say why this machine cannot."""
    import tempfile

    from tour.measure import tensorrt as converting

    with tempfile.TemporaryDirectory() as folder:
        try:
            converting.convert(str(served), folder, rows)
        except RuntimeError as error:
            return NotHere("TensorRT", str(error))
    return Number("TensorRT", "converted")


def _ordered(outputs: Mapping[str, Any], names: Mapping[str, Any]) -> list[Any]:
    return [outputs[name].numpy() for name in names]


def _kind(label: str) -> str:
    """Extract the operation type from a label such as ``name = Type(inputs)``."""
    return label.partition(" = ")[2].partition("(")[0] or label
