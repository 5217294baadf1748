"""The benchmark of heavy requests, on few clients: the server stays healthy and ends on SIGTERM."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.message import Message
from support.command import ROOT
from tensorflow_serving.apis import classification_pb2, predict_pb2

from benchmarks import hostile, hostile_bodies, hostile_gateway
from models.image.raw.conversion import REDUCED_PIXELS, decode
from serving.gateway.body_parser import MAX_FIELDS

CLIENTS = 6


@pytest.mark.slow
@pytest.mark.system
def test_nested_empty_lists_neither_silence_the_server_nor_fill_its_memory(tmp_path: Path) -> None:
    words = ["--clients", str(CLIENTS), "--only", "gzip, empty lists", "--out", str(tmp_path / "hostile.json")]
    subprocess.run([sys.executable, "-m", "benchmarks.hostile", *words], cwd=ROOT, check=True)
    (row,) = json.loads((tmp_path / "hostile.json").read_text())["requests"]
    counts = dict(part.split(":") for part in row["statuses"].split())
    assert set(counts) == {"400", "503"} and sum(map(int, counts.values())) == CLIENTS
    assert row["crashes"] == row["unhealthy"] == 0
    assert row["health_s"] < 10 and row["peak_gb"] < row["idle_gb"] + 0.5  # other work may slow the machine
    assert row["term_s"] < hostile.TERM_SECONDS


def test_bodies_are_what_their_names_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostile_bodies, "SIZE", 600)
    monkeypatch.setattr(hostile_bodies, "PAIRS", 10)
    bodies = {body.name: body for body in hostile_bodies.build_bodies()}
    for body in bodies.values():
        kind: type[Message] = (
            classification_pb2.ClassificationRequest if body.method.endswith("Classify") else predict_pb2.PredictRequest
        )
        if body.method:
            request = kind.FromString(body.content)
            assert request.model_spec.name == hostile_bodies.MODEL
    inputs = {
        name: predict_pb2.PredictRequest.FromString(bodies[name].content).inputs for name in bodies if "gRPC" in name
    }
    assert len(inputs["gRPC, floats"]["x"].tensor_content) == 600
    assert len(inputs["gRPC, list of floats"]["x"].float_val) == 150
    assert len(inputs["gRPC, integers"]["ids"].int64_val) == 600
    assert len(inputs["gRPC, empty strings"]["text"].string_val) == 300
    examples = classification_pb2.ClassificationRequest.FromString(bodies["gRPC, empty examples"].content)
    assert len(examples.input.example_list.examples) == 300
    assert json.loads(bodies["numbers, accepted"].content)["instances"][-1] == [1, 2]


def test_bodies_of_the_gateway_are_what_their_names_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostile_gateway, "SIZE", 600)
    bodies = {body.name: json.loads(body.content) for body in hostile_gateway.build_gateway_bodies()}
    assert np.array(bodies["pixels, accepted"]["pixels"]).shape == (500, 512)
    assert bodies["pixels, wrong"]["pixels"][0] == ["a"]
    assert len(bodies["unknown fields"]) == MAX_FIELDS
    picture = decode(base64.b64decode(bodies["image of many pixels"]["image"]))
    assert picture.changes and picture.pixels.size <= REDUCED_PIXELS
