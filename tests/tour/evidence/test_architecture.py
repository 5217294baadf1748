"""Evidence on networks: functional and subclassed, activations, dead units, lines of code, custom layers."""

import io
import tokenize
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit, softmax
from support.proofs import EvidenceCache

from models.catalog import CASES
from models.image import model as image
from models.image.layers import LAYERS
from pipeline.checkout import ROOT
from tour.evidence.context import Context
from tour.evidence.network import activation_functions, architecture, custom_layers
from tour.evidence.result_types import Graph, Number, Series, Table

pytestmark = pytest.mark.system


def test_functional_and_subclassed_answer_equally_with_equal_weights() -> None:
    first, second = architecture.functional_network(), architecture.SubclassedNetwork()
    pixels = np.random.default_rng(2).random((5, 8, 8, 1), np.float32)
    assert not np.allclose(first(pixels), second(pixels), atol=1e-3)
    second.set_weights(first.get_weights())
    assert np.array_equal(first(pixels), second(pixels)) and np.ptp(first(pixels)) > 1e-3
    rows = {row[0]: row[1:] for row in architecture.compare_functional_and_subclassed().rows}
    assert rows["largest difference with equal weights"] == (0.0, 0.0)
    assert rows["parameters"] == (first.count_params(), first.count_params())


def test_activation_curves_match_formulas_and_derivatives_match_differences() -> None:
    values, slopes = activation_functions.activation_curves()
    x = activation_functions.CURVE.astype(float)
    expected = {
        "relu": np.maximum(x, 0),
        "sigmoid": expit(x),
        "softmax of three, two at 0": softmax(np.stack([x, 0 * x, 0 * x], 1), axis=1)[:, 0],
    }
    for name, points in values.items():
        assert np.allclose([y for _, y in points], expected[name], atol=1e-5)
        derivatives, differences = np.array([y for _, y in slopes[name]]), np.gradient(expected[name], x)
        smooth = np.abs(x) > 0.15
        assert np.allclose(derivatives[smooth], differences[smooth], atol=2e-3)


class Served(tf.Module):
    """Three ReLU units: one is always active, one sometimes, one never."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = tf.Variable([10.0, 0.0, -10.0])

    @tf.function(input_signature=[tf.TensorSpec([None, 3], name="x")])
    def dense(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the doubled output of the ReLU."""
        return {"y": 2 * tf.nn.relu(x + self.bias)}


def test_dead_units_are_those_that_never_answer(tmp_path: Path) -> None:
    module = Served()
    tf.saved_model.save(module, str(tmp_path), signatures={"dense": module.dense})
    x = np.random.default_rng(3).normal(size=(1000, 3)).astype(np.float32)
    ((_, units, dead, zeros),) = activation_functions.dead_units(
        tf.saved_model.load(str(tmp_path)), {"x": tf.constant(x)}
    )
    assert (units, dead) == (3, 1)
    assert zeros == pytest.approx((np.mean(x[:, 1] <= 0) + 1) / 3, abs=1e-6)


def test_lines_are_those_that_python_would_run(tmp_path: Path) -> None:
    text = '"""Doc\n\nof it."""\n\n# a comment\nimport os  # why\n\n'
    text += 'def f(\n    a,\n):\n    """Doc."""\n    return (\n        a\n    )\n'
    (tmp_path / "m.py").write_text(text)
    assert architecture.count_code_lines(tmp_path / "m.py") == 7
    table = {row[0]: row[3:] for row in [(*row[:3], *architecture._source_file(row[3])) for row in architecture.LEFT]}
    for path, count in table.values():
        source = (ROOT / path).read_text()
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        skipped = (
            tokenize.COMMENT,
            tokenize.NL,
            tokenize.NEWLINE,
            tokenize.INDENT,
            tokenize.DEDENT,
            tokenize.ENDMARKER,
        )
        touched, start = set(), True
        for token in tokens:
            docstring = start and token.type == tokenize.STRING
            if token.type not in skipped and not docstring:
                touched |= set(range(token.start[0], token.end[0] + 1))
            if token.type not in (tokenize.COMMENT, tokenize.NL):
                start = token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
        assert 40 < count == len(touched), path
    assert table["export"][0] == "models/saved_model/export.py"


def test_custom_layer_survives_save_and_load_and_needs_its_class() -> None:
    settings = {**CASES["image"].settings["training"], "filters": 4, "classes": ["a", "b"]}
    model = image.build(settings, {"pixels": tf.TensorSpec([None, 8, 8, 1])})
    pixels = {"pixels": np.random.default_rng(4).random((3, 8, 8, 1), np.float32)}
    difference, error = custom_layers.round_trip(model, LAYERS, pixels)
    assert difference == 0.0 and error.startswith("TypeError")
    numbers = keras.Input((2,), name="pixels")
    plain = keras.Model({"pixels": numbers}, keras.layers.Dense(1)(numbers))
    assert custom_layers.round_trip(plain, {}, {"pixels": np.ones((1, 2), np.float32)}) == (0.0, "works")


def test_the_built_network_is_the_one_that_the_run_trained(proofs: EvidenceCache) -> None:
    table, graph = proofs.prove("A10", "image")
    assert isinstance(table, Table) and isinstance(graph, Graph)
    assert sum(row[3] for row in table.rows) == Context.of(proofs.home, "image").training["parameters"] > 1000
    names = {node.name for node in graph.nodes}
    ends = {name for edge in graph.edges for name in edge}
    assert ends == names == {row[0] for row in table.rows} and len(graph.edges) >= len(names) - 1


def test_network_evidence_describes_the_run(proofs: EvidenceCache) -> None:
    results = proofs.prove("A8", "image")
    assert {"image", "fraud"} <= {result.title.split(":")[0] for result in results}
    values, slopes, dead_units, units = proofs.prove("A13", "image")
    assert isinstance(values, Series) and set(values.lines) == set(slopes.lines)
    assert 0 <= dead_units.value <= sum(row[1] for row in units.rows) > 50
    config, weights, difference, error = proofs.prove("B11", "image")
    assert {row[0] for row in config.rows} >= {"Residual", "Shift"}
    assert {row[0]: row[1:] for row in weights.rows}["Residual"][0] == 0
    assert difference.value < 1e-5 and "TypeError" in error.value
    outside_keras, with_keras, signatures = proofs.prove("B2", "image")
    assert (
        isinstance(signatures, Number)
        and signatures.value == 3
        and len(outside_keras.rows) == 3
        and len(with_keras.rows) == 2
    )
