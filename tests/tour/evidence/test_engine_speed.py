"""B19: what is measured is the model that is served, by every way, against answers that NumPy gives."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from serving.server.loading.saved_model_session import SavedModel
from tour.evidence.serving import engine_speed

pytestmark = pytest.mark.system

WEIGHTS = np.random.default_rng(3).normal(size=(16, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Path:
    """One matrix product, and its TensorFlow Lite file beside."""
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
    model = SavedModel(served)
    ways = engine_speed.answering(served, model, rows)
    assert list(ways) == ["signature", "signature, XLA", "Session.run", "engine", "LiteRT, the pushed file"]
    for way in ways.values():
        (found,) = way(rows)
        np.testing.assert_allclose(found, np.maximum(rows["x"] @ WEIGHTS, 0), rtol=1e-4, atol=1e-5)
    told = {row[0]: row[2] for row in engine_speed.agreement(ways, rows).rows}
    assert set(told) == set(ways) and max(told.values()) < 1e-4
    table = engine_speed.latencies(ways, rows)
    for name, one, _, large, per_row, gain in table.rows:
        assert one > 0 and per_row == pytest.approx(large / 64, abs=0.06), name
        assert gain == pytest.approx(64 * one / large, rel=0.6), name
    slow = engine_speed.slowest(model, rows)
    assert "MatMul" in " ".join(str(row[0]) for row in slow.rows)
    assert all(0 <= row[3] <= 100 for row in slow.rows)
    model.close()


def test_a_difference_is_seen(served):
    rows = {"x": np.ones((64, 16), np.float32)}
    ways = {"exact": lambda batch: [batch["x"]], "off": lambda batch: [batch["x"] + 0.5]}
    assert [(name, off) for name, _, off in engine_speed.agreement(ways, rows).rows] == [("exact", 0.0), ("off", 0.5)]
    assert [first.split(", ")[0] for _, first, _ in engine_speed.agreement(ways, rows).rows] == ["1", "1.5"]


def test_tensorrt_says_why_it_is_not_here_or_is(served):
    found = engine_speed.tensorrt(served, {"x": np.ones((1, 16), np.float32)})
    assert found.title == "TensorRT" and (getattr(found, "reason", "") or found.value == "converted")
