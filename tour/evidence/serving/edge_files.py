"""Evidence on edge runtimes: the same input and model in Python, C++, Java, the browser and the SavedModel."""

import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from components.training.edge import lite_exporter
from serving import session_load
from serving.browser import chromium, site
from serving.edge import native
from serving.edge.interpreter import Interpreter
from tour.evidence.context import Context
from tour.evidence.result_types import Number, Result, Table
from tour.evidence.serving import raw_rows

ROWS = 500
CALLS = 200
Answers = dict[str, np.ndarray]


def runtimes(context: Context) -> list[Result]:
    """A22: the pushed `.tflite` run by Python, C++ and Java on held-out rows, compared with the SavedModel."""
    rows, path = load_rows(context), context.served / "model.tflite"
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
            with open_build_folder(context.home) as folder:
                native_run = build(folder).answer(path, rows)
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
        *raw_rows.compare_runtimes(context),
        Number("Size of LiteRT's shared library", native.find_litert_library().stat().st_size, "bytes"),
    ]


@contextmanager
def open_build_folder(home: Path) -> Iterator[Path]:
    """Yield the home's folder of compiled programs; a temporary one if the home cannot be written."""
    if os.access(home, os.W_OK):
        yield home / "edge"
        return
    with tempfile.TemporaryDirectory(prefix="edge-") as folder:
        yield Path(folder)


def _run_cpp(context: Context, model: Path, rows: Mapping[str, np.ndarray]) -> Answers:
    with open_build_folder(context.home) as folder:
        return native.build_cpp(folder).answer(model, rows).outputs


def equal_everywhere(context: Context) -> list[Result]:
    """B27: the page's samples answered by the server's session, by Python, by C++ and by the page in a browser."""
    with np.load(context.served / site.EXTRA / site.SAMPLES) as arrays:
        rows = {name.split("/")[1]: arrays[name] for name in arrays.files if name.startswith("input/")}
    model = context.served / site.EXTRA / site.MODEL
    ways: dict[str, Callable[[], Answers]] = {
        "server: SavedModel in a session": lambda: _session(context, rows),
        "Python: .tflite": lambda: Interpreter(model.read_bytes()).answer(rows),
        "C++: .tflite": lambda: _run_cpp(context, model, rows),
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
        *raw_rows.compare_runtimes(context),
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


def load_rows(context: Context, label: bool = False) -> Answers:
    """Return the first rows of eval as the network's inputs, and with ``label`` its label."""
    network = context.network
    return context.rows("eval", (*network.INPUTS, *([network.LABEL] if label else [])), ROWS)


def _largest_difference(outputs: Answers, expected: Answers, context: Context) -> float:
    score = context.network.SCORE
    return float(np.abs(outputs[score] - expected[score]).max())


def _first_value(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    return next(iter(rows.values()))
