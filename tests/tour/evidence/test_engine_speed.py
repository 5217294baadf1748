"""B19: every way of answering gives the outputs of NumPy, and its latency is measured."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from serving.server.loading.saved_model_session import SavedModelSession
from tour.evidence.serving import engine_speed

pytestmark = pytest.mark.system

WEIGHTS = np.random.default_rng(3).normal(size=(16, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Path:
    """SavedModel of a matrix product with ReLU, and its TensorFlow Lite file."""
    module = tf.Module()
    module.weights = tf.Variable(WEIGHTS)
    module.dense = tf.function(
        lambda x: {"y": tf.nn.relu(tf.matmul(x, module.weights))},
        input_signature=[tf.TensorSpec([None, 16], tf.float32, "x")],
    )
    path = tmp_path_factory.mktemp("served")
    tf.saved_model.save(module, str(path), signatures={"dense": module.dense})
    content = tf.lite.TFLiteConverter.from_saved_model(str(path), signature_keys=["dense"]).convert()
    (path / "model.tflite").write_bytes(content)
    return path


def test_every_way_gives_the_signatures_answers_and_one_row_is_dearest_alone(served):
    rows = {"x": np.random.default_rng(4).normal(size=(64, 16)).astype(np.float32)}
    model = SavedModelSession(served)
    ways = engine_speed.ways_to_answer(served, model, rows)
    assert list(ways) == ["signature", "signature, XLA", "Session.run", "engine", "LiteRT, the pushed file"]
    for way in ways.values():
        (outputs,) = way(rows)
        np.testing.assert_allclose(outputs, np.maximum(rows["x"] @ WEIGHTS, 0), rtol=1e-4, atol=1e-5)
    differences = {row[0]: row[2] for row in engine_speed.compare_outputs(ways, rows).rows}
    assert set(differences) == set(ways) and max(differences.values()) < 1e-4
    table = engine_speed.measure_latencies(ways, rows)
    for name, single, _, large, per_row, gain in table.rows:
        assert single > 0 and per_row == pytest.approx(large / 64, abs=0.06), name
        assert gain == pytest.approx(64 * single / large, rel=0.6), name
    slowest_table = engine_speed.slowest_operations(model, rows)
    assert "MatMul" in " ".join(str(row[0]) for row in slowest_table.rows)
    assert all(0 <= row[3] <= 100 for row in slowest_table.rows)
    model.close()


def test_differences_between_ways_are_reported(served):
    rows = {"x": np.ones((64, 16), np.float32)}
    ways = {"exact": lambda batch: [batch["x"]], "off": lambda batch: [batch["x"] + 0.5]}
    assert [(name, off) for name, _, off in engine_speed.compare_outputs(ways, rows).rows] == [
        ("exact", 0.0),
        ("off", 0.5),
    ]
    assert [first.split(", ")[0] for _, first, _ in engine_speed.compare_outputs(ways, rows).rows] == ["1", "1.5"]


def test_tensorrt_converts_or_gives_a_reason(served):
    result = engine_speed.try_tensorrt(served, {"x": np.ones((1, 16), np.float32)})
    assert result.title == "TensorRT" and (getattr(result, "reason", "") or result.value == "converted")
