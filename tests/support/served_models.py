"""Small SavedModels of every type that a server loads, and a model server in a thread of the test's process."""

import asyncio
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving.http import asyncio_server
from serving.server.app import ModelServer, ServerOptions

v1 = tf.compat.v1
WHOLE_LINE, LINE_NUMBER = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
POLL = 0.05


def export_half_plus(path: Path, add: float = 2.0) -> Path:
    """Export x/2 + ``add`` with TensorFlow 1: signatures for predict, regress and classify, a variable and an asset."""
    asset = path.parent / f"asset-{path.name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    asset.write_text("half\n")
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        asset_path = tf.constant(str(asset))
        v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, asset_path)
        examples = v1.placeholder(tf.string, [None], "examples")
        parsed = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([1], tf.float32)})["x"]
        x = v1.placeholder_with_default(parsed, [None, 1], "x")
        factor, offset = v1.get_variable("half", initializer=0.5), v1.get_variable("more", initializer=float(add))
        y, y3 = factor * x + offset, factor * x + 3.0
        table = tf.lookup.StaticVocabularyTable(
            tf.lookup.TextFileInitializer(asset_path, tf.string, WHOLE_LINE, tf.int64, LINE_NUMBER), 1
        )
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        info = v1.saved_model.build_tensor_info
        define = v1.saved_model.build_signature_def
        classes = tf.fill(tf.shape(y), "half")
        line_numbers = table.lookup(tf.fill(tf.shape(y), "half"))

        def signature(inputs: Mapping, outputs: Mapping, method: str) -> Any:
            return define(
                {k: info(v) for k, v in inputs.items()},
                {k: info(v) for k, v in outputs.items()},
                f"tensorflow/serving/{method}",
            )

        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=v1.tables_initializer(),
            signature_def_map={
                "serving_default": signature({"x": x}, {"y": y}, "predict"),
                "two": signature({"x": x}, {"y": y, "y3": y3}, "predict"),
                "known": signature({"x": x}, {"known": line_numbers}, "predict"),
                "regress_x_to_y": signature({"inputs": examples}, {"outputs": y}, "regress"),
                "regress_x_to_y3": signature({"inputs": examples}, {"outputs": y3}, "regress"),
                "classify_x_to_y": signature({"inputs": examples}, {"classes": classes, "scores": y}, "classify"),
            },
        )
        builder.save()
    asset.unlink()
    return path


class SignaturesModule(tf.Module):
    """Signatures that ``export_half_plus`` lacks: strings, integers, several inputs, no batch, NaN, and slow work."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = tf.Variable(2.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def echo(self, text):
        """Return strings, once as text and once as bytes."""
        return {"text": text, "raw_bytes": tf.strings.join([text, text])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, "a"), tf.TensorSpec([None, 2], tf.float32, "b")])
    def add(self, a, b):
        """Add two inputs of different types."""
        return {"sum": self.scale * (tf.cast(a, tf.float32) + tf.reduce_sum(b, 1)), "a": a}

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, "x")])
    def scalar(self, x):
        """Multiply a scalar, without a batch."""
        return {"y": self.scale * x}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def same(self, x):
        """Return the input, including NaN."""
        return {"y": tf.identity(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, "turns")])
    def slow(self, turns):
        """Multiply matrices ``turns`` times."""
        value = tf.while_loop(
            lambda n, m: n < tf.reduce_max(turns), lambda n, m: (n + 1, tf.matmul(m, m)), [tf.constant(0), tf.eye(256)]
        )[1]
        return {"done": tf.cast(turns, tf.float32) * value[0, 0]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def positive(self, x):
        """Fail if a row is negative."""
        with tf.control_dependencies([tf.debugging.assert_non_negative(x, "negative")]):
            return {"y": tf.sqrt(x)}


def export_signatures(path: Path) -> Path:
    """Export the module with TensorFlow 2."""
    module = SignaturesModule()
    names = ("echo", "add", "scalar", "same", "slow", "positive")
    tf.saved_model.save(
        module, str(path), signatures={"serving_default": module.add} | {n: getattr(module, n) for n in names}
    )
    return path


class HalfPlus(tf.Module):
    """The default signature of :func:`export_half_plus` with TensorFlow 2, which LiteRT's converter reads."""

    def __init__(self, add: float) -> None:
        super().__init__()
        self.offset = tf.Variable(add)

    @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, "x")])
    def add(self, x):
        """Return x/2 plus the offset."""
        return {"y": 0.5 * x + self.offset}


def write_lite(path: Path, module: HalfPlus | SignaturesModule) -> None:
    """Write ``model.tflite`` with the default signature into a version."""
    with tempfile.TemporaryDirectory() as scratch:
        tf.saved_model.save(module, scratch, signatures={"serving_default": module.add})
        converter = tf.lite.TFLiteConverter.from_saved_model(scratch, signature_keys=["serving_default"])
        (path / "model.tflite").write_bytes(converter.convert())


def write_warmup(path: Path, value: float, signature: str = "", column: str = "x") -> None:
    """Write a warm-up request into a version."""
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(build_predict_request("any", {column: np.array([[value]], np.float32)}, signature))
    (path / "assets.extra").mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())


def build_predict_request(
    model: str,
    inputs: Mapping[str, Any],
    signature: str = "",
    version: int | None = None,
    label: str = "",
    only: tuple[str, ...] = (),
) -> predict_pb2.PredictRequest:
    """Build a request like TensorFlow's client code."""
    request = predict_pb2.PredictRequest(output_filter=only)
    request.model_spec.name, request.model_spec.signature_name = model, signature
    if version is not None:
        request.model_spec.version.value = version
    if label:
        request.model_spec.version_label = label
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def wait_until(condition: Callable[[], bool], seconds: float = 180) -> None:
    """Wait until a condition is true."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "the condition did not become true in time"
        time.sleep(0.01)


@contextmanager
def run_model_server(options: ServerOptions) -> Iterator[ModelServer]:
    """Run a server on free ports."""
    apps: list[ModelServer] = []
    failures: list[BaseException] = []
    started, stopping, loops = threading.Event(), asyncio.Event(), []

    async def work() -> None:
        app = ModelServer(options)
        try:
            await app.start()
            apps.append(app)
            loops.append(asyncio.get_running_loop())
            started.set()
            await stopping.wait()
        finally:
            await app.close()

    def main() -> None:
        try:
            asyncio_server.run(work())
        except BaseException as error:
            failures.append(error)
        started.set()

    thread = threading.Thread(target=main)
    thread.start()
    started.wait()
    try:
        if failures:
            raise failures[0]
        yield apps[0]
    finally:
        if loops:
            loops[0].call_soon_threadsafe(stopping.set)
        thread.join()
        if failures:
            raise failures[0]


def push_version(source: Path, base: Path, version: int) -> None:
    """Copy a version to a temporary folder and rename it, like the Pusher."""
    base.mkdir(exist_ok=True)
    shutil.copytree(source / str(version), base / f".incoming-{version}")
    os.rename(base / f".incoming-{version}", base / str(version))


def predict_number(port: int, value: float = 2.0) -> float:
    """Return the prediction of model ``m`` for a number."""
    response = httpx.post(f"http://127.0.0.1:{port}/v1/models/m:predict", json={"instances": [[value]]}, timeout=120)
    assert response.status_code == 200, response.text
    return response.json()["predictions"][0][0]
