"""A loaded version: LiteRT signatures, batches of several requests, and warm-up requests."""

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
