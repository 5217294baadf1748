"""The inference benchmark: counts and times against known values, and a complete small run."""

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
    """Advance a fake clock, the only one that the benchmark reads, by some seconds."""
    now = [0.0]

    def advance(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(inference, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    return advance


def test_matrix_product_has_two_operations_per_weight_and_row() -> None:
    weights = tf.Variable(tf.ones((30, 7)))
    counted = inference.count_operations(
        lambda rows: tf.matmul(rows["x"], weights), {"x": np.ones((5, 30), np.float32)}
    )
    assert counted == 2 * 5 * 30 * 7


def test_latency_is_the_median_of_the_calls(work: Callable[[float], None]) -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        work(0.05 if len(calls) == 2 else 0.005)

    assert inference.measure_latency(call, 0.1) == pytest.approx(0.005) and len(calls) == 11
    assert inference.measure_latency(lambda: work(0.03), 0.0) == pytest.approx(0.03)


def test_metric_and_difference_cover_the_whole_split() -> None:
    truth = np.arange(10)[:, None] % 2
    network = SimpleNamespace(SCORE="s", quality=lambda y, z: {"accuracy": float(np.mean((z[:, 0] > 0.5) == y[:, 0]))})
    methods = {"exact": lambda rows: {"s": rows["x"]}, "off": lambda rows: {"s": rows["x"] + 0.25}}
    metrics = inference.compute_metrics(methods, {"x": truth[:, 0] * 0.5 + 0.26}, truth, network)
    assert metrics["exact"] == {"accuracy": 1.0, "largest difference": 0.0}
    assert metrics["off"] == {"accuracy": 0.5, "largest difference": 0.25}


def test_methods_are_timed_in_interleaved_rounds(
    work: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []

    def make_method(name: str, seconds: float):
        def call(rows):
            order.append(name)
            work(seconds)

        return call

    monkeypatch.setattr(inference, "compute_limit", lambda *_: 0.002)
    methods = {"eager Keras": make_method("eager", 0.02), "tf.function": make_method("graph", 0.005)}
    rows = inference.measure_methods(methods, {"x": np.ones((64, 2))}, 0.0, 3)
    assert [(row["way"], row["batch"]) for row in rows] == [(name, size) for size in (1, 64) for name in methods]
    assert order == 2 * (["eager", "eager", "graph", "graph"] + 3 * ["eager", "graph"])
    assert rows[1]["times eager"] == pytest.approx(4) and rows[1]["of the limit"] == pytest.approx(0.4)
    assert rows[3]["ms"] == pytest.approx(5) and rows[3]["rows/s"] == 64 / 0.005


def test_missing_run_error_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="showcase run fraud"):
        runs.find_artifacts(tmp_path, "fraud")


def test_reports_contain_no_path_of_the_machine() -> None:
    for path in (RESULTS / "inference.json", RESULTS / "input.json"):
        text = path.read_text()
        report = json.loads(text)
        assert report["machine"]["date"][:2] == "20" and report["machine"]["cores"]
        assert "fraud" in report["cases"] and set(report["cases"]) <= set(CASES)
        assert not [word for word in ("/tmp", "/home", "/work", "/root") if word in text]


@pytest.mark.slow
def test_every_method_agrees_with_the_eager_model(pushed_home: Path) -> None:
    report = inference.measure(pushed_home, "image", 0.1, 3)
    rows = {(row["way"], row["batch"]): row for row in report["latency"]}
    assert len(rows) == 16
    for method in ("tf.function", "XLA", "SavedModel, dense", "LiteRT float32"):
        assert rows[method, 64]["largest difference"] < 1e-4
        assert rows[method, 1]["accuracy"] == rows["eager Keras", 1]["accuracy"] > 0.9
    assert rows["LiteRT int8", 1]["accuracy"] > 0.9
    assert report["slowest operations"][0]["share"] > 0.05
    assert report["tensorrt"][0]["outcome"].startswith("TensorRT is not available") or tf.config.list_physical_devices(
        "GPU"
    )
