"""Tiny SavedModels of every kind that a server meets, and a server in a thread of the test's own process."""

import asyncio
import os
import shutil
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
from serving.server.app import App, Options

v1 = tf.compat.v1
WHOLE_LINE, LINE_NUMBER = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
POLL = 0.05


def half_plus(path: Path, add: float = 2.0) -> Path:
    """x/2 + ``add``, as TensorFlow 1 wrote models: predict, regress and classify, over a variable and an asset."""
    asset = path.parent / f"asset-{path.name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    asset.write_text("half\n")
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        asset_path = tf.constant(str(asset))
        v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, asset_path)
        examples = v1.placeholder(tf.string, [None], "examples")
        parsed = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([1], tf.float32)})["x"]
        x = v1.placeholder_with_default(parsed, [None, 1], "x")
        half, more = v1.get_variable("half", initializer=0.5), v1.get_variable("more", initializer=float(add))
        y, y3 = half * x + more, half * x + 3.0
        table = tf.lookup.StaticVocabularyTable(
            tf.lookup.TextFileInitializer(asset_path, tf.string, WHOLE_LINE, tf.int64, LINE_NUMBER), 1
        )
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        info = v1.saved_model.build_tensor_info
        define = v1.saved_model.build_signature_def
        classes = tf.fill(tf.shape(y), "half")
        known = table.lookup(tf.fill(tf.shape(y), "half"))

        def door(inputs: Mapping, outputs: Mapping, method: str) -> Any:
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
                "serving_default": door({"x": x}, {"y": y}, "predict"),
                "two": door({"x": x}, {"y": y, "y3": y3}, "predict"),
                "known": door({"x": x}, {"known": known}, "predict"),
                "regress_x_to_y": door({"inputs": examples}, {"outputs": y}, "regress"),
                "regress_x_to_y3": door({"inputs": examples}, {"outputs": y3}, "regress"),
                "classify_x_to_y": door({"inputs": examples}, {"classes": classes, "scores": y}, "classify"),
            },
        )
        builder.save()
    asset.unlink()
    return path


class Doors(tf.Module):
    """What a half_plus has not: strings, integers, several inputs, no batch, NaN, and work that takes a while."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = tf.Variable(2.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def echo(self, text):
        """Strings, once as text and once as bytes."""
        return {"text": text, "raw_bytes": tf.strings.join([text, text])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, "a"), tf.TensorSpec([None, 2], tf.float32, "b")])
    def add(self, a, b):
        """Two inputs of two types."""
        return {"sum": self.scale * (tf.cast(a, tf.float32) + tf.reduce_sum(b, 1)), "a": a}

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, "x")])
    def scalar(self, x):
        """No batch."""
        return {"y": self.scale * x}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def same(self, x):
        """What comes in, NaN and all."""
        return {"y": tf.identity(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, "turns")])
    def slow(self, turns):
        """Multiplies matrices that often."""
        value = tf.while_loop(
            lambda n, m: n < tf.reduce_max(turns), lambda n, m: (n + 1, tf.matmul(m, m)), [tf.constant(0), tf.eye(256)]
        )[1]
        return {"done": tf.cast(turns, tf.float32) * value[0, 0]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def positive(self, x):
        """Fails where a row is negative."""
        with tf.control_dependencies([tf.debugging.assert_non_negative(x, "negative")]):
            return {"y": tf.sqrt(x)}


def doors(path: Path) -> Path:
    """The module as TensorFlow 2 saves it."""
    module = Doors()
    names = ("echo", "add", "scalar", "same", "slow", "positive")
    tf.saved_model.save(
        module, str(path), signatures={"serving_default": module.add} | {n: getattr(module, n) for n in names}
    )
    return path


def warm(path: Path, value: float, signature: str = "", column: str = "x") -> None:
    """Writes a warm-up request into a version."""
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(predict("any", {column: np.array([[value]], np.float32)}, signature))
    (path / "assets.extra").mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())


def predict(
    model: str,
    inputs: Mapping[str, Any],
    signature: str = "",
    version: int | None = None,
    label: str = "",
    only: tuple[str, ...] = (),
) -> predict_pb2.PredictRequest:
    """A request as TensorFlow's own client code makes it."""
    request = predict_pb2.PredictRequest(output_filter=only)
    request.model_spec.name, request.model_spec.signature_name = model, signature
    if version is not None:
        request.model_spec.version.value = version
    if label:
        request.model_spec.version_label = label
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def until(true: Callable[[], bool], seconds: float = 180) -> None:
    """Waits for something to become true."""
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "it did not come true"
        time.sleep(0.01)


@contextmanager
def serving(options: Options) -> Iterator[App]:
    """A server on free ports."""
    apps: list[App] = []
    failures: list[BaseException] = []
    up, over, loops = threading.Event(), asyncio.Event(), []

    async def work() -> None:
        app = App(options)
        try:
            await app.start()
            apps.append(app)
            loops.append(asyncio.get_running_loop())
            up.set()
            await over.wait()
        finally:
            await app.close()

    def main() -> None:
        try:
            asyncio_server.run(work())
        except BaseException as error:
            failures.append(error)
        up.set()

    thread = threading.Thread(target=main)
    thread.start()
    up.wait()
    try:
        if failures:
            raise failures[0]
        yield apps[0]
    finally:
        if loops:
            loops[0].call_soon_threadsafe(over.set)
        thread.join()
        if failures:
            raise failures[0]


def push(made: Path, base: Path, version: int) -> None:
    """As the Pusher does: copied elsewhere, then renamed."""
    base.mkdir(exist_ok=True)
    shutil.copytree(made / str(version), base / f".incoming-{version}")
    os.rename(base / f".incoming-{version}", base / str(version))


def ask(port: int, value: float = 2.0) -> float:
    """What ``m`` of a server says of a number."""
    found = httpx.post(f"http://127.0.0.1:{port}/v1/models/m:predict", json={"instances": [[value]]}, timeout=120)
    assert found.status_code == 200, found.text
    return found.json()["predictions"][0][0]
