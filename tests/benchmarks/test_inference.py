"""The benchmark of inference: what it counts and times, against known answers, and a whole small run."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import inference, runs
from models.catalog import CASES

RESULTS = runs.ROOT / "benchmarks/results"


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Work of so many seconds by a clock that nothing else moves."""
    now = [0.0]

    def advance(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(inference, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    return advance


def test_operations_of_a_matrix_product_are_two_a_weight_and_row() -> None:
    weights = tf.Variable(tf.ones((30, 7)))
    counted = inference.operations(lambda rows: tf.matmul(rows["x"], weights), {"x": np.ones((5, 30), np.float32)})
    assert counted == 2 * 5 * 30 * 7


def test_latency_is_the_median_of_a_call(work: Callable[[float], None]) -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        work(0.05 if len(calls) == 2 else 0.005)

    assert inference.latency(call, 0.1) == pytest.approx(0.005) and len(calls) == 11
    assert inference.latency(lambda: work(0.03), 0.0) == pytest.approx(0.03)


def test_the_metric_and_the_difference_are_of_the_whole_split() -> None:
    truth = np.arange(10)[:, None] % 2
    network = SimpleNamespace(SCORE="s", quality=lambda y, z: {"accuracy": float(np.mean((z[:, 0] > 0.5) == y[:, 0]))})
    ways = {"exact": lambda rows: {"s": rows["x"]}, "off": lambda rows: {"s": rows["x"] + 0.25}}
    found = inference.judged(ways, {"x": truth[:, 0] * 0.5 + 0.26}, truth, network)
    assert found["exact"] == {"accuracy": 1.0, "largest difference": 0.0}
    assert found["off"] == {"accuracy": 0.5, "largest difference": 0.25}


def test_ways_are_timed_in_turns_beside_eager(work: Callable[[float], None], monkeypatch: pytest.MonkeyPatch) -> None:
    order = []

    def way(name: str, seconds: float):
        def call(rows):
            order.append(name)
            work(seconds)

        return call

    monkeypatch.setattr(inference, "limit", lambda *_: 0.002)
    ways = {"eager Keras": way("eager", 0.02), "tf.function": way("graph", 0.005)}
    rows = inference.timed(ways, {"x": np.ones((64, 2))}, 0.0, 3)
    assert [(one["way"], one["batch"]) for one in rows] == [(name, size) for size in (1, 64) for name in ways]
    assert order == 2 * (["eager", "eager", "graph", "graph"] + 3 * ["eager", "graph"])
    assert rows[1]["times eager"] == pytest.approx(4) and rows[1]["of the limit"] == pytest.approx(0.4)
    assert rows[3]["ms"] == pytest.approx(5) and rows[3]["rows/s"] == 64 / 0.005


def test_a_case_without_a_run_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="showcase run fraud"):
        runs.artifacts(tmp_path, "fraud")


def test_reports_name_no_folder_of_the_machine() -> None:
    for path in (RESULTS / "inference.json", RESULTS / "input.json"):
        text = path.read_text()
        told = json.loads(text)
        assert told["machine"]["date"][:2] == "20" and told["machine"]["cores"]
        assert "fraud" in told["cases"] and set(told["cases"]) <= set(CASES)
        assert not [word for word in ("/tmp", "/home", "/work", "/root") if word in text]


@pytest.mark.slow
def test_every_way_answers_as_the_eager_model(pushed_home: Path) -> None:
    found = inference.measure(pushed_home, "image", 0.1, 3)
    rows = {(one["way"], one["batch"]): one for one in found["latency"]}
    assert len(rows) == 16
    for way in ("tf.function", "XLA", "SavedModel, dense", "LiteRT float32"):
        assert rows[way, 64]["largest difference"] < 1e-4
        assert rows[way, 1]["accuracy"] == rows["eager Keras", 1]["accuracy"] > 0.9
    assert rows["LiteRT int8", 1]["accuracy"] > 0.9
    assert found["slowest operations"][0]["share"] > 0.05
    assert found["tensorrt"][0]["outcome"].startswith("TensorRT is not available") or tf.config.list_physical_devices(
        "GPU"
    )
