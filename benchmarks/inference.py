"""Measure the latency of the served network by execution method, and its metric on the eval split.

    python -m benchmarks.inference [--home HOME] [--cases fraud image] [--seconds 0.5] [--rounds 5] [--out FILE]

Uses the last pushed run of each use case under the home; without --home it runs the pipeline in a temporary folder.
All methods start from the transformed features, so that only the network is compared; the LiteRT models are artifacts
of the run.

The limit is the network's floating-point operations at the rate of a large float32 matrix product on all cores: the
time of a call without overhead whose operations keep the cores as busy as that product does.
"""

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.runs import find_artifacts, median, parse_arguments, print_table, provide_home, write_report

SIZES = (1, 64)
LITE = ("float32", "dynamic", "float16", "int8")
TRACED = 100
SLOWEST = 5
SIDE = 1024
CHUNK = 4096
Call = Callable[[Mapping[str, Any]], Any]


def main() -> None:
    """Measure each use case, print its tables and write the JSON."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    options = parse_arguments(__doc__, "inference.json")
    with provide_home(options.home, options.cases) as home:
        cases = {name: measure(home, name, options.seconds, options.rounds) for name in options.cases}
    write_report(options.out, cases=cases)


def measure(home: Path, case: str, seconds: float, rounds: int) -> dict[str, Any]:
    """Measure one use case: latency and metric by method, the slowest operations, TensorRT."""
    from models.catalog import find_use_case
    from models.input import Transform, list_shards, load
    from models.saved_model import restore

    outputs, served = find_artifacts(home, case)
    network, transform = find_use_case(case).load("model"), Transform(str(outputs["transform_graph"]))
    rows = load(list_shards(str(outputs["examples"]), "eval"), transform, (*network.INPUTS, network.LABEL))
    inputs, truth = {name: rows[name] for name in network.INPUTS}, rows[network.LABEL]
    model = restore.restore_model(str(served), network, transform, restore.find_pretrained(outputs["model_run"]))
    ways = build_methods(network, model, served, outputs["lite_model"])
    metrics = compute_metrics(ways, inputs, truth, network)
    tables = {
        "latency": [row | metrics[row["way"]] for row in measure_methods(ways, inputs, seconds, rounds)],
        "slowest operations": find_slowest_operations(ways["tf.function"], inputs),
        "tensorrt": [{"outcome": convert_with_tensorrt(served, inputs)}],
    }
    for name, table in tables.items():
        print_table(f"{case}: {name}", table)
    return tables


def build_methods(network: Any, model: Any, served: Path, lite: Path) -> dict[str, Call]:
    """Return every execution method by name; each maps arrays, ``[rows, ...]`` per feature, to outputs by name."""
    import json

    import tensorflow as tf

    from models.saved_model import restore
    from models.saved_model.files import EXTRA

    settings = restore.read_settings(str(served))
    point = json.loads((served / EXTRA / "model.json").read_text())["operating_point"]

    def answer(inputs: Mapping[str, Any]) -> dict[str, Any]:
        return network.answers(model(inputs, training=False), point, settings)

    spec = [
        {
            name: tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype, name=name)
            for name, tensor in model.input.items()
        }
    ]
    plain, xla = tf.function(answer, input_signature=spec), tf.function(answer, jit_compile=True)
    loaded = tf.saved_model.load(str(served))
    signature = loaded.signatures["dense"]

    def dense(rows: Mapping[str, Any], model: Any = loaded) -> Any:
        # The default argument keeps the loaded model alive: a signature holds no reference to its variables.
        return signature(**_to_tensors(rows))

    ways: dict[str, Call] = {
        "eager Keras": lambda rows: answer(_to_tensors(rows)),
        "tf.function": lambda rows: plain(_to_tensors(rows)),
        "XLA": lambda rows: xla(_to_tensors(rows)),
        "SavedModel, dense": dense,
    }
    return ways | {f"LiteRT {name}": _load_lite(lite / f"{name}.tflite") for name in LITE}


def compute_metrics(
    ways: Mapping[str, Call], inputs: Mapping[str, Any], truth: Any, network: Any
) -> dict[str, dict[str, float]]:
    """Return the metric of each method on the whole split, and its largest difference from the eager model's scores."""
    import numpy as np

    scores = {}
    for name, way in ways.items():
        parts = [
            np.asarray(way({key: value[start : start + CHUNK] for key, value in inputs.items()})[network.SCORE])
            for start in range(0, len(truth), CHUNK)
        ]
        # Both metrics depend on the order only, so probabilities give the same value as logits.
        scores[name] = np.concatenate(parts).reshape(len(truth), -1)
    exact = next(iter(scores.values()))
    return {
        name: {**network.quality(truth, values), "largest difference": float(np.abs(values - exact).max())}
        for name, values in scores.items()
    }


def measure_methods(
    ways: Mapping[str, Call], inputs: Mapping[str, Any], seconds: float, rounds: int
) -> list[dict[str, Any]]:
    """Return a row per method and batch size: median latency, rows per second, ratios to eager and to the limit."""
    results = []
    for size in SIZES:
        batch = {name: value[:size] for name, value in inputs.items()}
        times: dict[str, list[float]] = {name: [] for name in ways}
        for way in ways.values():
            way(batch), way(batch)  # warm-up: tracing, compilation, allocation
        for _ in range(rounds):
            for name, way in ways.items():
                times[name].append(measure_latency(partial(way, batch), seconds / rounds))
        medians = {name: median(values) for name, values in times.items()}
        floor = compute_limit(ways["tf.function"], batch, rounds)
        results += [
            {
                "way": name,
                "batch": size,
                "ms": 1000 * seconds_per_call,
                "fastest round": 1000 * min(times[name]),
                "slowest round": 1000 * max(times[name]),
                "rows/s": round(size / seconds_per_call),
                "times eager": medians["eager Keras"] / seconds_per_call,
                "of the limit": floor / seconds_per_call,
            }
            for name, seconds_per_call in medians.items()
        ]
    return results


def measure_latency(call: Callable[[], Any], seconds: float) -> float:
    """Return the median time of a call in seconds, measured for at least ``seconds``."""
    times: list[float] = []
    deadline = time.perf_counter() + seconds
    while not times or time.perf_counter() < deadline:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return median(times)


def compute_limit(way: Call, batch: Mapping[str, Any], rounds: int) -> float:
    """Return the seconds of the batch's floating-point operations at the rate of a large matrix product."""
    import tensorflow as tf

    square = tf.random.stateless_normal((SIDE, SIDE), (1, 2))
    product = tf.function(lambda: tf.matmul(square, square))
    product()
    seconds = min(measure_latency(lambda: product().numpy(), 0.2) for _ in range(rounds))
    return count_operations(way, batch) / (2 * SIDE**3 / seconds)


def count_operations(way: Call, batch: Mapping[str, Any]) -> int:
    """Count the floating-point operations of one call with TensorFlow's profiler, on a graph of that batch size."""
    import tensorflow as tf
    from tensorflow.python.framework import convert_to_constants

    specs = {name: tf.TensorSpec(value.shape, value.dtype) for name, value in batch.items()}
    function = tf.function(lambda inputs: way(inputs)).get_concrete_function(specs)
    frozen = convert_to_constants.convert_variables_to_constants_v2(function)
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation() | {"output": "none"}
    return tf.compat.v1.profiler.profile(frozen.graph, options=options).total_float_ops


def find_slowest_operations(way: Call, inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the slowest operations in a profiler trace of the compiled network at the larger batch size."""
    from benchmarks import profiler_trace

    batch = {name: value[: SIZES[-1]] for name, value in inputs.items()}
    with tempfile.TemporaryDirectory() as folder:
        trace = profiler_trace.trace_call(lambda: way(batch), TRACED, Path(folder))
    total = sum(operation.milliseconds for operation in trace)
    return [
        {
            "operation": operation.name.removeprefix("StatefulPartitionedCall/"),
            "kind": operation.kind,
            "calls": operation.calls,
            "ms a call": operation.milliseconds / operation.calls,
            "share": operation.milliseconds / total,
        }
        for operation in trace[:SLOWEST]
    ]


def convert_with_tensorrt(served: Path, inputs: Mapping[str, Any]) -> str:
    """Convert the export with TensorRT; return ``converted``, or the reason why it cannot be."""
    from tour.measure import tensorrt as converting

    with tempfile.TemporaryDirectory() as folder:
        try:
            converting.convert(str(served), str(Path(folder) / "converted"), inputs)
        except RuntimeError as error:
            return str(error)
    return "converted"


def _load_lite(path: Path) -> Call:
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(path), num_threads=len(os.sched_getaffinity(0))).get_signature_runner("dense")
    return lambda rows: runner(**rows)


def _to_tensors(rows: Mapping[str, Any]) -> dict[str, Any]:
    import tensorflow as tf

    return {name: tf.convert_to_tensor(value) for name, value in rows.items()}


if __name__ == "__main__":
    main()
