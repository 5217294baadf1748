"""A loaded version: LiteRT signatures, batches of several requests, and warm-up requests."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from support.served_client import ModelServerClient
from support.served_models import (
    POLL,
    SignaturesModule,
    build_predict_request,
    export_half_plus,
    run_model_server,
    wait_until,
    write_warmup,
)
from support.served_versions import build_options, find_available, has_failed

from components.training.edge.raw_signature import convert_raw
from serving.edge import raw_model
from serving.server.app import ServerOptions
from serving.server.config import BatchingParameters, ModelConfig

pytestmark = pytest.mark.system


def test_litert_runs_the_signatures_of_the_tflite_file(signatures_version, tmp_path):
    shutil.copytree(signatures_version, tmp_path / "m" / "1")
    other = SignaturesModule()
    other.scale.assign(5.0)  # so that its outputs differ from the SavedModel's
    tf.saved_model.save(other, str(tmp_path / "other"), signatures={"serving_default": other.add})
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "other"), signature_keys=["serving_default"])
    (tmp_path / "m" / "1" / "model.tflite").write_bytes(converter.convert())
    for prefer, expected in ((False, [6.0, 8.0, 10.0]), (True, [15.0, 20.0, 25.0])):
        with run_model_server(build_options(tmp_path / "m", prefer_lite=prefer)) as app:
            wait_until(lambda: find_available(app) == {1})
            client = ModelServerClient(app)
            for rows in (3, 1, 2):
                inputs = {"a": np.array([1, 2, 3], np.int64)[:rows], "b": np.ones((rows, 2), np.float32)}
                answer = client.stub.Predict(build_predict_request("m", inputs), timeout=20)
                assert list(answer.outputs["sum"].float_val) == expected[:rows]
            same = client.stub.Predict(build_predict_request("m", {"x": [1.0]}, "same"), timeout=20)
            assert list(same.outputs["y"].float_val) == [1.0]
            client.close()


class Priced(tf.Module):
    """A raw signature of a word and a number, as a case has it; ``scale`` tells which file has answered."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(["red", "green"], tf.constant([1, 2], tf.int64)), 0
        )

    @tf.function(
        input_signature=[tf.TensorSpec([None, 1], tf.string, "word"), tf.TensorSpec([None, 1], tf.float32, "number")]
    )
    def raw(self, word, number):
        """Multiply the number by the word's index and the scale."""
        return {"y": self.scale * number * tf.cast(self.table.lookup(word), tf.float32)}


@pytest.fixture(scope="module")
def priced(tmp_path_factory):
    """A version whose SavedModel has the scale 1 and whose raw file, which the gate has passed, has the scale 10."""
    folders = [tmp_path_factory.mktemp("priced") for _ in range(2)]
    for folder, scale in zip(folders, (1.0, 10.0), strict=True):
        module = Priced(scale)
        tf.saved_model.save(module, str(folder), signatures={"raw": module.raw})
    content = convert_raw(str(folders[1]))
    (folders[0] / raw_model.FILE).write_bytes(content)
    record = {"raw": raw_model.make_record(content, {})}
    (folders[0] / "assets.extra").mkdir()
    (folders[0] / raw_model.RECORD).write_text(json.dumps(record))
    return folders[0]


def ask(client, words, numbers):
    """Return the answer over gRPC to rows of a word and a number."""
    inputs = {"word": np.array(words, object).reshape(-1, 1), "number": np.array(numbers, np.float32).reshape(-1, 1)}
    return tf.make_ndarray(client.stub.Predict(build_predict_request("m", inputs, "raw"), timeout=20).outputs["y"])[
        :, 0
    ].tolist()


def test_litert_answers_raw_where_the_gate_has_passed_it(priced, tmp_path):
    shutil.copytree(priced, tmp_path / "1")
    with run_model_server(build_options(tmp_path)) as app:
        wait_until(lambda: find_available(app) == {1})
        client = ModelServerClient(app)
        assert ask(client, [b"red"], [1]) == [10]
        assert ask(client, [b"green", b"", b"\xff never seen", b"red"], [1, 2, 3, 4]) == [20, 0, 0, 40]
        assert ask(client, [b"red"] * 100, range(100)) == [10.0 * n for n in range(100)]
        row = {"word": "green", "number": 2.5}
        body = {"signature_name": "raw", "instances": [{name: [value] for name, value in row.items()}]}
        assert client.http.post("/v1/models/m:predict", json=body).json() == {"predictions": [[50.0]]}
        # The SavedModel answers what LiteRT cannot: no rows, and rows without a finite answer.
        assert ask(client, [], []) == []
        assert ask(client, [b"red", b"red"], [np.inf, 1]) == [np.inf, 1]
        client.close()


def test_the_saved_model_answers_raw_without_the_gate_or_if_told_to(priced, tmp_path):
    versions = {"passed": {}, "off": {"lite_raw": False}, "no record": {}, "another file": {}}
    for name in versions:
        shutil.copytree(priced, tmp_path / name / "1")
    (tmp_path / "no record" / "1" / raw_model.RECORD).unlink()
    (tmp_path / "another file" / "1" / raw_model.FILE).write_bytes(b"TFL3")
    answers = {}
    for name, options in versions.items():
        with run_model_server(build_options(tmp_path / name, **options)) as app:
            wait_until(lambda app=app: find_available(app) == {1})
            client = ModelServerClient(app)
            answers[name] = ask(client, [b"red"], [3])
            client.close()
    assert answers == {"passed": [30], "off": [3], "no record": [3], "another file": [3]}


def test_versions_with_and_without_litert_are_swapped_under_load(priced, tmp_path):
    shutil.copytree(priced, tmp_path / "1")
    with run_model_server(build_options(tmp_path)) as app:
        wait_until(lambda: find_available(app) == {1})
        client = ModelServerClient(app)
        answers = [ask(client, [b"red"], [1])[0]]
        for version in (2, 3):
            shutil.copytree(priced, tmp_path / f".{version}")
            if version == 2:
                (tmp_path / ".2" / raw_model.FILE).unlink()
            (tmp_path / f".{version}").rename(tmp_path / str(version))
            while find_available(app) != {version}:
                answers.append(ask(client, [b"red"], [1])[0])
            answers.append(ask(client, [b"red"], [1])[0])
        client.close()
    changes = [value for index, value in enumerate(answers) if index == 0 or value != answers[index - 1]]
    assert changes == [10, 1, 10]


def test_damaged_tflite_prevents_loading(signatures_version, tmp_path):
    shutil.copytree(signatures_version, tmp_path / "1")
    (tmp_path / "1" / "model.tflite").write_bytes(b"TFL3")
    with run_model_server(build_options(tmp_path, prefer_lite=True)) as app:
        wait_until(lambda: has_failed(app))
        assert app.engine.states("m")[0].code == "DATA_LOSS"


def test_rows_of_concurrent_requests_share_a_batch(signatures_version, tmp_path):
    shutil.copytree(signatures_version, tmp_path / "1")
    with run_model_server(build_options(tmp_path, batching=BatchingParameters(threads=1))) as app:
        wait_until(lambda: find_available(app) == {1})
        client = ModelServerClient(app)
        first = client.stub.Predict.future(
            build_predict_request("m", {"turns": np.array([300], np.int32)}, "slow"), timeout=60
        )
        others = [
            client.stub.Predict.future(build_predict_request("m", {"x": np.full(2, n, np.float32)}, "same"), timeout=60)
            for n in range(10)
        ]
        assert [list(future.result().outputs["y"].float_val) for future in others] == [[n, n] for n in range(10)]
        assert first.result().outputs["done"].float_val[0] == 300.0
        histogram = app.metrics.batches["m"]
        assert histogram.sum == 21 and sum(histogram.counts) < 11
        client.close()


def test_warmup_runs_before_serving_and_its_failure_prevents_loading(tmp_path):
    write_warmup(export_half_plus(tmp_path / "m" / "1"), 4.0)
    write_warmup(export_half_plus(tmp_path / "m" / "2"), 4.0, column="wrong")
    model = ModelConfig("m", str(tmp_path / "m"), "all")
    with run_model_server(ServerOptions([model], grpc_port=None, rest_port=0, poll=POLL)) as app:
        wait_until(lambda: len(app.engine.states("m")) == 2 and app.engine.states("m")[0].state == "END")
        assert app.engine.servable("m").version == 1 and app.engine.servable("m").warmup_requests == 1
        states = {state.version: (state.state, state.code) for state in app.engine.states("m")}
        assert states == {1: ("AVAILABLE", "OK"), 2: ("END", "INVALID_ARGUMENT")}
