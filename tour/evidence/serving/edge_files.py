"""Evidence on edge models: size, latency and metric loss of the files, the parity gate, and the same input on every runtime."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import tensorflow as tf

from components.training.edge import lite_exporter
from models.errors import GateError
from serving import session_load
from serving.browser import chromium, site
from serving.edge import native
from serving.edge.interpreter import Interpreter
from tour.evidence.context import Context
from tour.evidence.result_types import Number, Result, Table

ROWS = 500
CALLS = 200
OPTIONS = {
    "float32": "none",
    "dynamic": "Optimize.DEFAULT",
    "float16": "Optimize.DEFAULT, supported_types float16",
    "int8": "Optimize.DEFAULT, representative_dataset, TFLITE_BUILTINS_INT8",
}
Answers = dict[str, np.ndarray]


def runtimes(context: Context) -> list[Result]:
    """A22: the pushed `.tflite` run by Python, C++ and Java on held-out rows, compared with the SavedModel."""
    rows, path = _rows(context), context.served / "model.tflite"
    python, expected = Interpreter(path.read_bytes()), lite_exporter.run_saved_model(str(context.served), rows)
    answers = python.answer(rows)
    first = (
        "Python",
        len(path.read_bytes()),
        python.latency(rows, CALLS),
        0.0,
        _largest_difference(answers, expected, context),
    )
    table: list[tuple[Any, ...]] = [first]
    for name, build in (("C++", native.build_cpp), ("Java over JNI", native.build_java)):
        try:
            native_run = build(context.home / "edge").answer(path, rows)
        except FileNotFoundError as error:
            table.append((name, str(error), "", "", ""))
            continue
        differences = (
            _largest_difference(native_run.outputs, answers, context),
            _largest_difference(native_run.outputs, expected, context),
        )
        table.append((name, len(path.read_bytes()), native_run.latency_us, *differences))
    columns = (
        "runtime",
        "bytes",
        "µs per row",
        "largest difference from Python",
        "largest difference from the SavedModel",
    )
    inputs = tuple((name, spec.dtype, str(list(spec.shape))) for name, spec in python.inputs.items())
    return [
        Table(f"model.tflite on {len(_first_value(rows))} held-out rows", columns, tuple(table)),
        Table("Inputs of the model for a row", ("input", "dtype", "shape"), inputs),
        Number("Size of LiteRT's shared library", native.find_litert_library().stat().st_size, "bytes"),
    ]


def variants(context: Context) -> list[Result]:
    """B3: size, latency and metric of each variant, measured now, compared with the SavedModel."""
    rows, network = _rows(context, label=True), context.case.load("model")
    inputs = {name: rows[name] for name in network.INPUTS}
    signature = tf.saved_model.load(str(context.served)).signatures["dense"]
    expected = {name: value.numpy() for name, value in _call(signature, inputs).items()}
    names = ("variant", "bytes", "latency_us", "metric", "metric_loss", "difference")
    table = [tuple(variant[name] for name in names) for variant in _measure_variants(context, rows, expected)]
    first_row = {name: values[:1] for name, values in inputs.items()}
    durations = [_seconds(lambda: _call(signature, first_row)) for _ in range(CALLS)]
    metric = network.quality(rows[network.LABEL], _column(expected[network.SCORE]))[network.MONITOR]
    graph = _size(context.served / "variables") + (context.served / "saved_model.pb").stat().st_size
    table.append(("SavedModel, all signatures", graph, float(np.median(durations)) * 1e6, metric, 0.0, 0.0))
    columns = (
        "variant",
        "bytes",
        "µs per row",
        network.MONITOR,
        f"loss of {network.MONITOR}",
        "largest difference from the SavedModel",
    )
    return [
        Table(f"Variants on {len(rows[network.LABEL])} held-out rows, one thread", columns, tuple(table)),
        Number("Size of LiteRT's shared library", native.find_litert_library().stat().st_size, "bytes"),
        Number("Size of the TensorFlow package", _size(Path(tf.__file__).parent), "bytes"),
    ]


def conversions(context: Context) -> list[Result]:
    """B14: options and parity of each variant, and the gate refusing an int8 model that was calibrated on zeros."""
    rows, network, gates = _rows(context, label=True), context.case.load("model"), context.settings["gates"]
    inputs = {name: rows[name] for name in network.INPUTS}
    expected = lite_exporter.run_saved_model(str(context.served), inputs)
    table = _measure_variants(context, rows, expected)
    chosen = lite_exporter.select_variant(table, gates)
    zeros = {name: np.zeros_like(values) for name, values in inputs.items()}
    content = lite_exporter.convert(str(context.served), "int8", zeros)
    miscalibrated = lite_exporter.measure_lite_variant("int8, calibrated on zeros", content, network, rows, expected)
    variant_rows = [
        (
            variant["variant"],
            OPTIONS[variant["variant"]],
            _types(context, variant["variant"]),
            variant["difference"],
            variant["metric_loss"],
            _verdict(variant, gates),
        )
        for variant in table
    ]
    variant_rows.append(
        (
            miscalibrated["variant"],
            OPTIONS["int8"],
            "",
            miscalibrated["difference"],
            miscalibrated["metric_loss"],
            _verdict(miscalibrated, gates),
        )
    )
    columns = (
        "variant",
        "converter options",
        "bytes of constants by type",
        "largest difference",
        f"loss of {network.MONITOR}",
        "gate",
    )
    return [
        Table(
            f"Variants compared with the SavedModel on {len(rows[network.LABEL])} held-out rows",
            columns,
            tuple(variant_rows),
        ),
        Number("Chosen variant: the smallest that passed", chosen),
        Number(f"Maximum loss of {network.MONITOR} that the gate allows", gates["lite_metric_loss"]),
        Number("Gate if float32 differed by twice the tolerance", _refusal(table, gates)),
    ]


def equal_everywhere(context: Context) -> list[Result]:
    """B27: the page's samples answered by the server's session, by Python, by C++ and by the page in a browser."""
    with np.load(context.served / site.EXTRA / site.SAMPLES) as arrays:
        rows = {name.split("/")[1]: arrays[name] for name in arrays.files if name.startswith("input/")}
    model = context.served / site.EXTRA / site.MODEL
    ways: dict[str, Callable[[], Answers]] = {
        "server: SavedModel in a session": lambda: _session(context, rows),
        "Python: .tflite": lambda: Interpreter(model.read_bytes()).answer(rows),
        "C++: .tflite": lambda: native.build_cpp(context.home / "edge").answer(model, rows).outputs,
        "browser: LiteRT.js in Chromium": lambda: _browser(context, rows),
    }
    answers, missing = {}, []
    for name, answer in ways.items():
        try:
            answers[name] = answer()
        except FileNotFoundError as error:
            missing.append((name, str(error)))
    server = answers["server: SavedModel in a session"]
    first_sample = [
        (name, *(", ".join(f"{value:.6g}" for value in values[0].ravel()) for _, values in sorted(outputs.items())))
        for name, outputs in answers.items()
    ]
    differences = [
        (name, max(float(np.abs(outputs[key] - server[key]).max()) for key in server))
        for name, outputs in answers.items()
    ]
    results: list[Result] = [
        Table("Outputs for the first sample", ("runtime", *sorted(server)), tuple(first_sample)),
        Table(
            f"Differences over all {len(_first_value(rows))} samples",
            ("runtime", "largest difference from the server"),
            tuple(differences),
        ),
        Number("Maximum difference that the gate allows", context.settings["gates"]["lite_tolerance"]),
    ]
    if missing:
        results.append(Table("Runtimes that this machine lacks", ("runtime", "reason"), tuple(missing)))
    return results


def answer_in_browser(context: Context, rows: Mapping[str, np.ndarray], model: Path | None = None) -> Answers:
    """Answer the rows by the page in a headless browser.

    Raises:
        FileNotFoundError: if Chromium, Playwright or LiteRT.js is not installed; the message says what to do.
    """
    name = context.case.name
    server = site.create_server(site.Site({name: context.served}, {name: model} if model else {}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with server, chromium.start() as browser:
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            page.evaluate("window.ready")
            flat = json.dumps({key: values.ravel().tolist() for key, values in rows.items()})
            outputs = page.evaluate(f"window.run({json.dumps(name)}, {flat})")["outputs"]
    finally:
        server.shutdown()
    count = len(_first_value(rows))
    return {key: np.array(values, np.float32).reshape(count, -1) for key, values in outputs.items()}


def _browser(context: Context, rows: Mapping[str, np.ndarray]) -> Answers:
    shapes = Interpreter((context.served / site.EXTRA / site.MODEL).read_bytes()).outputs
    return {name: values.reshape(-1, *shapes[name].shape) for name, values in answer_in_browser(context, rows).items()}


def _session(context: Context, rows: Mapping[str, np.ndarray]) -> Answers:
    answers = session_load.run_signatures(
        str(context.served), {f"dense/{name}": values for name, values in rows.items()}
    )
    return {name.removeprefix("dense/"): values for name, values in answers.items()}


def _rows(context: Context, label: bool = False) -> Answers:
    network = context.case.load("model")
    return context.rows("eval", (*network.INPUTS, *([network.LABEL] if label else [])), ROWS)


def _measure_variants(context: Context, rows: Answers, expected: Answers) -> list[dict[str, Any]]:
    folder, network = context.artifact("lite_model"), context.case.load("model")
    return [
        lite_exporter.measure_lite_variant(name, (folder / f"{name}.tflite").read_bytes(), network, rows, expected)
        for name in lite_exporter.VARIANTS
    ]


def _verdict(variant: Mapping[str, Any], gates: Mapping[str, Any]) -> str:
    return "passes" if variant["metric_loss"] <= gates["lite_metric_loss"] else "refused"


def _refusal(table: list[dict[str, Any]], gates: Mapping[str, Any]) -> str:
    """Message of the gate if float32 differed by twice the tolerance."""
    try:
        lite_exporter.select_variant([{**table[0], "difference": 2 * gates["lite_tolerance"]}, *table[1:]], gates)
    except GateError as error:
        return str(error)
    return "passes"


def _types(context: Context, variant: str) -> str:
    """Bytes of constant tensors in a variant's file, by dtype."""
    from ai_edge_litert import schema_py_generated as schema

    content = (context.artifact("lite_model") / f"{variant}.tflite").read_bytes()
    model, names = schema.Model.GetRootAs(content), {code: name for name, code in vars(schema.TensorType).items()}
    bytes_by_type: dict[str, int] = {}
    for tensor in _tensors(model):
        size = model.Buffers(tensor.Buffer()).DataLength()
        name = str(names[tensor.Type()]).lower()
        bytes_by_type[name] = bytes_by_type.get(name, 0) + size
    return ", ".join(
        f"{name} {size:,}" for name, size in sorted(bytes_by_type.items(), key=lambda pair: -pair[1]) if size
    )


def _tensors(model: Any) -> Iterator[Any]:
    graphs = (model.Subgraphs(index) for index in range(model.SubgraphsLength()))
    return (graph.Tensors(index) for graph in graphs for index in range(graph.TensorsLength()))


def _largest_difference(outputs: Answers, expected: Answers, context: Context) -> float:
    score = context.case.load("model").SCORE
    return float(np.abs(outputs[score] - expected[score]).max())


def _call(signature: Any, inputs: Answers) -> dict[str, tf.Tensor]:
    return signature(**{name: tf.constant(values) for name, values in inputs.items()})


def _seconds(work: Callable[[], Any]) -> float:
    started = perf_counter()
    work()
    return perf_counter() - started


def _column(scores: np.ndarray) -> np.ndarray:
    return scores.reshape(len(scores), -1)


def _first_value(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    return next(iter(rows.values()))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
