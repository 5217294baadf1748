"""The edge: what the exported files cost and lose, what the gate refuses, and one input answered everywhere."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import tensorflow as tf

from components.training import lite_exporter
from models.errors import Refused
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
    """A22: the pushed `.tflite` run by Python, C++ and Java on held-out rows, and how far each is from the SavedModel."""
    rows, path = _rows(context), context.served / "model.tflite"
    python, expected = Interpreter(path.read_bytes()), lite_exporter.answers(str(context.served), rows)
    answers = python.answer(rows)
    first = ("Python", len(path.read_bytes()), python.latency(rows, CALLS), 0.0, _worst(answers, expected, context))
    table: list[tuple[Any, ...]] = [first]
    for name, build in (("C++", native.cpp), ("Java over JNI", native.java)):
        try:
            found = build(context.home / "edge").answer(path, rows)
        except FileNotFoundError as error:
            table.append((name, str(error), "", "", ""))
            continue
        told = _worst(found.outputs, answers, context), _worst(found.outputs, expected, context)
        table.append((name, len(path.read_bytes()), found.latency_us, *told))
    columns = ("runtime", "bytes", "µs a row", "largest difference from Python", "from the SavedModel")
    inputs = tuple((name, one.dtype, str(list(one.shape))) for name, one in python.inputs.items())
    return [
        Table(f"model.tflite on {len(_any(rows))} held-out rows", columns, tuple(table)),
        Table("What a device has to fill in, a row", ("input", "type", "shape"), inputs),
        Number("LiteRT's shared library", native.runtime().stat().st_size, "bytes"),
    ]


def variants(context: Context) -> list[Result]:
    """B3: size, latency and metric of each variant measured now, beside the SavedModel's own."""
    rows, network = _rows(context, label=True), context.case.load("model")
    inputs = {name: rows[name] for name in network.INPUTS}
    signature = tf.saved_model.load(str(context.served)).signatures["dense"]
    expected = {name: value.numpy() for name, value in _ask(signature, inputs).items()}
    names = ("variant", "bytes", "latency_us", "metric", "metric_loss", "difference")
    table = [tuple(one[name] for name in names) for one in _measured(context, rows, expected)]
    one = {name: values[:1] for name, values in inputs.items()}
    spent = [_seconds(lambda: _ask(signature, one)) for _ in range(CALLS)]
    metric = network.quality(rows[network.LABEL], _column(expected[network.SCORE]))[network.MONITOR]
    graph = _size(context.served / "variables") + (context.served / "saved_model.pb").stat().st_size
    table.append(("SavedModel, all signatures", graph, float(np.median(spent)) * 1e6, metric, 0.0, 0.0))
    columns = ("variant", "bytes", "µs a row", network.MONITOR, "loss", "largest difference")
    return [
        Table(f"On {len(rows[network.LABEL])} held-out rows, one thread", columns, tuple(table)),
        Number("LiteRT's shared library", native.runtime().stat().st_size, "bytes"),
        Number("TensorFlow's package", _size(Path(tf.__file__).parent), "bytes"),
    ]


def conversions(context: Context) -> list[Result]:
    """B14: options and parity of each variant, and the gate refusing an int8 whose ranges were learnt from nothing."""
    rows, network, gates = _rows(context, label=True), context.case.load("model"), context.settings["gates"]
    inputs = {name: rows[name] for name in network.INPUTS}
    expected = lite_exporter.answers(str(context.served), inputs)
    table = _measured(context, rows, expected)
    chosen = lite_exporter.judge(table, gates)
    blind = {name: np.zeros_like(values) for name, values in inputs.items()}
    content = lite_exporter.convert(str(context.served), "int8", blind)
    spoilt = lite_exporter.measured("int8, ranges from zeros", content, network, rows, expected)
    shown = [
        (
            one["variant"],
            OPTIONS[one["variant"]],
            _types(context, one["variant"]),
            one["difference"],
            one["metric_loss"],
            _verdict(one, gates),
        )
        for one in table
    ]
    shown.append(
        (spoilt["variant"], OPTIONS["int8"], "", spoilt["difference"], spoilt["metric_loss"], _verdict(spoilt, gates))
    )
    columns = ("variant", "converter options", "weights", "largest difference", f"loss of {network.MONITOR}", "gate")
    return [
        Table(f"On {len(rows[network.LABEL])} held-out rows against the SavedModel", columns, tuple(shown)),
        Number("Chosen: the smallest that passed", chosen),
        Number(f"Loss of {network.MONITOR} that a variant may have", gates["lite_metric_loss"]),
        Number("If float32 differed by twice the tolerance", _refusal(table, gates)),
    ]


def equal_everywhere(context: Context) -> list[Result]:
    """B27: the page's samples answered by the server's loader, by Python, by C++ and by the page in a browser."""
    with np.load(context.served / site.EXTRA / site.SAMPLES) as arrays:
        rows = {name.split("/")[1]: arrays[name] for name in arrays.files if name.startswith("input/")}
    model = context.served / site.EXTRA / site.MODEL
    ways: dict[str, Callable[[], Answers]] = {
        "server: SavedModel in a session": lambda: _session(context, rows),
        "Python: .tflite": lambda: Interpreter(model.read_bytes()).answer(rows),
        "C++: .tflite": lambda: native.cpp(context.home / "edge").answer(model, rows).outputs,
        "browser: LiteRT.js in Chromium": lambda: _browser(context, rows),
    }
    found, missing = {}, []
    for name, ask in ways.items():
        try:
            found[name] = ask()
        except FileNotFoundError as error:
            missing.append((name, str(error)))
    server = found["server: SavedModel in a session"]
    one = [
        (name, *(", ".join(f"{value:.6g}" for value in values[0].ravel()) for _, values in sorted(outputs.items())))
        for name, outputs in found.items()
    ]
    all_ = [
        (name, max(float(np.abs(outputs[key] - server[key]).max()) for key in server))
        for name, outputs in found.items()
    ]
    results: list[Result] = [
        Table("The first sample", ("answered by", *sorted(server)), tuple(one)),
        Table(f"All {len(_any(rows))} samples", ("answered by", "largest difference from the server"), tuple(all_)),
        Number("Difference that the gate allows", context.settings["gates"]["lite_tolerance"]),
    ]
    if missing:
        results.append(Table("Not on this machine", ("which", "why"), tuple(missing)))
    return results


def page(context: Context, rows: Mapping[str, np.ndarray], model: Path | None = None) -> Answers:
    """The rows answered by the page in a headless browser.

    Raises:
        FileNotFoundError: if there is no browser or LiteRT.js is not installed, naming what to do.
    """
    name = context.case.name
    served = site.server(site.Site({name: context.served}, {name: model} if model else {}))
    threading.Thread(target=served.serve_forever, daemon=True).start()
    try:
        with served, chromium.Chromium(f"http://127.0.0.1:{served.server_port}/") as opened:
            opened.evaluate("window.ready")
            flat = json.dumps({key: values.ravel().tolist() for key, values in rows.items()})
            told = opened.evaluate(f"window.run({json.dumps(name)}, {flat})")["outputs"]
    finally:
        served.shutdown()
    count = len(_any(rows))
    return {key: np.array(values, np.float32).reshape(count, -1) for key, values in told.items()}


def _browser(context: Context, rows: Mapping[str, np.ndarray]) -> Answers:
    shapes = Interpreter((context.served / site.EXTRA / site.MODEL).read_bytes()).outputs
    return {name: values.reshape(-1, *shapes[name].shape) for name, values in page(context, rows).items()}


def _session(context: Context, rows: Mapping[str, np.ndarray]) -> Answers:
    answers = session_load.answer(str(context.served), {f"dense/{name}": values for name, values in rows.items()})
    return {name.removeprefix("dense/"): values for name, values in answers.items()}


def _rows(context: Context, label: bool = False) -> Answers:
    network = context.case.load("model")
    return context.rows("eval", (*network.INPUTS, *([network.LABEL] if label else [])), ROWS)


def _measured(context: Context, rows: Answers, expected: Answers) -> list[dict[str, Any]]:
    folder, network = context.artifact("lite_model"), context.case.load("model")
    return [
        lite_exporter.measured(name, (folder / f"{name}.tflite").read_bytes(), network, rows, expected)
        for name in lite_exporter.VARIANTS
    ]


def _verdict(one: Mapping[str, Any], gates: Mapping[str, Any]) -> str:
    return "passes" if one["metric_loss"] <= gates["lite_metric_loss"] else "refused"


def _refusal(table: list[dict[str, Any]], gates: Mapping[str, Any]) -> str:
    """What the gate says of the same table with a float32 that is off."""
    try:
        lite_exporter.judge([{**table[0], "difference": 2 * gates["lite_tolerance"]}, *table[1:]], gates)
    except Refused as error:
        return str(error)
    return "nothing"


def _types(context: Context, variant: str) -> str:
    """Bytes of constant tensors by type in a file."""
    from ai_edge_litert import schema_py_generated as schema

    content = (context.artifact("lite_model") / f"{variant}.tflite").read_bytes()
    model, names = schema.Model.GetRootAs(content), {code: name for name, code in vars(schema.TensorType).items()}
    total: dict[str, int] = {}
    for tensor in _tensors(model):
        size = model.Buffers(tensor.Buffer()).DataLength()
        name = str(names[tensor.Type()]).lower()
        total[name] = total.get(name, 0) + size
    return ", ".join(f"{name} {size:,}" for name, size in sorted(total.items(), key=lambda pair: -pair[1]) if size)


def _tensors(model: Any) -> Iterator[Any]:
    graphs = (model.Subgraphs(index) for index in range(model.SubgraphsLength()))
    return (graph.Tensors(index) for graph in graphs for index in range(graph.TensorsLength()))


def _worst(found: Answers, expected: Answers, context: Context) -> float:
    score = context.case.load("model").SCORE
    return float(np.abs(found[score] - expected[score]).max())


def _ask(signature: Any, inputs: Answers) -> dict[str, tf.Tensor]:
    return signature(**{name: tf.constant(values) for name, values in inputs.items()})


def _seconds(work: Callable[[], Any]) -> float:
    started = perf_counter()
    work()
    return perf_counter() - started


def _column(scores: np.ndarray) -> np.ndarray:
    return scores.reshape(len(scores), -1)


def _any(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    return next(iter(rows.values()))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
