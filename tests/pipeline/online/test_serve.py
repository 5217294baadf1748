"""`showcase serve` on what runs have pushed: REST, gRPC and the check before the push give equal answers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
from support.command import ROOT, start_showcase
from support.in_process import run_in_process
from support.pushed_home import copy_home
from support.served_models import predict
from tensorflow_serving.apis import prediction_service_pb2_grpc

from pipeline.local.local_runtime import local_runtime

pytestmark = pytest.mark.system


def test_a_home_with_nothing_pushed_is_one_sentence(tmp_path):
    done = run_in_process("serve", "--home", tmp_path)
    assert done.returncode == 2 and "Nothing has been pushed under" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_store_that_is_none_is_one_sentence(tmp_path):
    done = run_in_process("serve", "--home", tmp_path, "--store", "nonsense")
    assert done.returncode == 2 and "must be 'embedded' or a URL like" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("states", "arrived"),
    [
        ([], True),
        (["running"], False),
        (["refused", "running"], False),
        (["pushed", "running"], True),
        (["failed"], True),
    ],
)
def test_a_first_push_has_arrived_when_its_run_has_ended(tmp_path, states, arrived):
    from pipeline.metadata import store
    from pipeline.online import serve

    metadata = local_runtime(tmp_path).metadata
    for n, state in enumerate(states):
        store.save(metadata, store.Run(f"run{n}", "fraud", state, "why", "print", {"pid": str(os.getpid())}))
    assert serve.arrived(tmp_path, "fraud") is arrived and serve.arrived(tmp_path, "image")


def test_serve_is_listed_without_importing_tensorflow():
    command = [sys.executable, "-X", "importtime", "-m", "cli.main", "serve", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "TensorFlow Serving" in done.stdout
    assert not {"tensorflow", "grpc", "numpy"} & {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}


@pytest.mark.slow
def test_all_signatures_of_both_models_answer_equally_by_rest_and_grpc(pushed_home, tmp_path):
    home = copy_home(pushed_home, tmp_path)  # the server writes its model config file there
    words = ["--home", home, "--rest-port=0", "--grpc-port=0", "--no-gateway", "--json"]
    process = start_showcase("serve", *words, stdout=subprocess.PIPE)
    try:
        told = json.loads(process.stdout.readline())
        assert told["models"] == {"fraud": 1, "image": 1}
        stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(told["grpc"]))
        for case in told["models"]:
            for signature in ("serving_default", "raw", "dense"):
                inputs, expected = checked(pushed_home, case, signature)
                outputs = stub.Predict(predict(case, inputs, signature), timeout=60).outputs
                body = {"signature_name": signature, "inputs": {name: plain(value) for name, value in inputs.items()}}
                found = httpx.post(f"{told['rest']}/v1/models/{case}:predict", json=body, timeout=60).json()["outputs"]
                by_name = found if len(expected) > 1 else dict.fromkeys(expected, found)
                for name, value in expected.items():
                    by_grpc = tf.make_ndarray(outputs[name])
                    np.testing.assert_allclose(by_grpc, value, atol=1e-5)
                    np.testing.assert_array_equal(np.array(by_name[name], by_grpc.dtype), by_grpc)
    finally:
        process.terminate()
    assert process.wait(60) == 0


def checked(home: Path, case: str, signature: str) -> tuple[dict, dict]:
    """Requests and answers of the check before the push."""
    (folder,) = (home / case / "artifacts" / "ServingCheck" / "blessing").iterdir()
    with np.load(folder / "requests.npz", allow_pickle=True) as asked, np.load(folder / "answers.npz") as answers:
        split = [
            {name.split("/")[1]: one[name] for name in one.files if name.startswith(f"{signature}/")}
            for one in (asked, answers)
        ]
    return split[0], split[1]


def plain(value: np.ndarray) -> list:
    """As JSON has it: strings as b64, which any bytes fit into."""
    if value.dtype != object:
        return value.tolist()
    from base64 import b64encode

    return np.vectorize(lambda one: {"b64": b64encode(one).decode()}, otypes=[object])(value).tolist()
