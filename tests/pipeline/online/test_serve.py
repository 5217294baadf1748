"""`showcase serve` on pushed versions: REST, gRPC and the ServingCheck before the push give equal outputs."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
from support.command import ROOT, start_showcase
from support.in_process import run_in_process
from support.pushed_home import copy_home
from support.served_models import build_predict_request
from tensorflow_serving.apis import prediction_service_pb2_grpc

from pipeline.home import Home
from pipeline.run import Run

pytestmark = pytest.mark.system


def test_home_without_pushed_models_is_an_error(tmp_path):
    result = run_in_process("serve", "--home", tmp_path)
    assert result.returncode == 2 and "Nothing has been pushed under" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_waiting_server_is_alive_and_becomes_ready_with_the_first_push(tmp_path):
    """A remote backend, as in a cluster: this process loads no model."""
    from support import amount_model

    words = ["--wait", "--port=0", "--backend=127.0.0.1:1", "--no-monitor", "--json"]
    server = start_showcase("serve", "--home", tmp_path, *words, stdout=subprocess.PIPE)
    try:
        url = json.loads(server.stdout.readline())["gateway"]
        assert httpx.get(f"{url}/healthz").status_code == 200
        assert httpx.get(f"{url}/readyz").json() == {"ready": False, "cases": {}}
        assert (tmp_path / "models.config").read_text() == "model_config_list {\n}\n"
        amount_model.export_amount_model(Home(tmp_path).case("fraud").versions, 1)
        deadline = time.monotonic() + 60
        while httpx.get(f"{url}/readyz").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        server.terminate()
    assert server.wait(60) == 0


def test_a_store_that_is_none_is_one_sentence(tmp_path):
    done = run_in_process("serve", "--home", tmp_path, "--store", "nonsense")
    assert done.returncode == 2 and "must be 'embedded' or a URL like" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], True),
        (["running"], False),
        (["refused", "running"], False),
        (["pushed", "running"], True),
        (["failed"], True),
    ],
)
def test_memory_can_be_filled_once_the_first_pushed_run_has_ended(tmp_path, states, expected):
    from pipeline.metadata import store
    from pipeline.online import serve

    metadata = Home(tmp_path).metadata
    for number, state in enumerate(states):
        store.save(metadata, Run(f"run{number}", "fraud", state, "why", "print", {"pid": str(os.getpid())}))
    assert serve.can_fill_memory(tmp_path, "fraud") is expected and serve.can_fill_memory(tmp_path, "image")


def test_serve_help_does_not_import_tensorflow():
    command = [sys.executable, "-X", "importtime", "-m", "cli.main", "serve", "--help"]
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert process.returncode == 0 and "TensorFlow Serving" in process.stdout
    assert not {"tensorflow", "grpc", "numpy"} & {
        line.rsplit("|", 1)[-1].strip() for line in process.stderr.splitlines()
    }


@pytest.mark.slow
def test_rest_grpc_and_serving_check_agree_for_all_signatures(pushed_home, tmp_path):
    home = copy_home(pushed_home, tmp_path)  # the server writes its model config file there
    arguments = ["--home", home, "--rest-port=0", "--grpc-port=0", "--no-gateway", "--json"]
    process = start_showcase("serve", *arguments, stdout=subprocess.PIPE)
    try:
        server = json.loads(process.stdout.readline())
        assert server["models"] == {"fraud": 1, "image": 1}
        stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(server["grpc"]))
        for case in server["models"]:
            for signature in ("serving_default", "raw", "dense"):
                inputs, expected = load_check(pushed_home, case, signature)
                outputs = stub.Predict(build_predict_request(case, inputs, signature), timeout=60).outputs
                body = {
                    "signature_name": signature,
                    "inputs": {name: to_json_value(value) for name, value in inputs.items()},
                }
                rest_outputs = httpx.post(f"{server['rest']}/v1/models/{case}:predict", json=body, timeout=60).json()[
                    "outputs"
                ]
                by_name = rest_outputs if len(expected) > 1 else dict.fromkeys(expected, rest_outputs)
                for name, value in expected.items():
                    by_grpc = tf.make_ndarray(outputs[name])
                    np.testing.assert_allclose(by_grpc, value, atol=1e-5)
                    np.testing.assert_array_equal(np.array(by_name[name], by_grpc.dtype), by_grpc)
    finally:
        process.terminate()
    assert process.wait(60) == 0


def load_check(home: Path, case: str, signature: str) -> tuple[dict, dict]:
    """Return the inputs and outputs that the ServingCheck recorded before the push."""
    (folder,) = (home / case / "artifacts" / "ServingCheck" / "blessing").iterdir()
    with np.load(folder / "requests.npz", allow_pickle=True) as requests, np.load(folder / "answers.npz") as answers:
        split = [
            {name.split("/")[1]: file[name] for name in file.files if name.startswith(f"{signature}/")}
            for file in (requests, answers)
        ]
    return split[0], split[1]


def to_json_value(value: np.ndarray) -> list:
    """Convert an array to JSON values of TensorFlow Serving's REST API: strings as base64, which takes any bytes."""
    if value.dtype != object:
        return value.tolist()
    from base64 import b64encode

    return np.vectorize(lambda item: {"b64": b64encode(item).decode()}, otypes=[object])(value).tolist()
