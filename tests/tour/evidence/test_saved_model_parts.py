"""Evidence on the export: parts, signatures, lifetimes of variables, and the graph after Grappler."""

import numpy as np
import pytest
import tensorflow as tf
from support.built_case import BuiltCase, get_built_case

from models.catalog import CASES
from tour.evidence import result_types
from tour.evidence.serving import grappler, saved_model_parts

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> BuiltCase:
    return get_built_case(CASES["image"], tmp_path_factory)


def cells(table: result_types.Table, column: int = 1) -> dict:
    return {row[0]: row[column] for row in table.rows}


def test_parts_of_a_saved_model_are_counted_as_tensorflow_loads_them(done: BuiltCase) -> None:
    parts, signatures, _ = saved_model_parts.count_parts(done.export)
    counts, loaded = cells(parts), tf.saved_model.load(str(done.export))
    assert set(cells(signatures)) == set(loaded.signatures) == {"serving_default", "raw", "dense"}
    assert counts["signatures"] == 3 and counts["sessions"] == 0
    assert counts["variables"] >= len(loaded.signatures["dense"].variables) > 0
    assert counts["operations"] > counts["kinds of operation"] > 10 and counts["functions"] > 3


def test_placeholders_fail_and_specs_take_their_place(done: BuiltCase) -> None:
    assert saved_model_parts.create_placeholder().startswith("RuntimeError: ")
    loaded = tf.saved_model.load(str(done.export))
    assert ("dense", "pixels", "(None, 8, 8, 1)", "float32") in saved_model_parts.inputs_table(loaded).rows
    names = cells(saved_model_parts.variables_table(done.export))
    assert {variable.name.split(":")[0] for variable in loaded.signatures["dense"].variables} <= set(names)


def test_a_variable_lives_as_long_as_its_owner_which_the_export_names(done: BuiltCase) -> None:
    assert saved_model_parts.release_variable() == (
        ("one of two references deleted", True),
        ("last reference deleted", False),
    )
    graph = saved_model_parts.variable_owners(done.export)
    variables = {node.name for node in graph.nodes if node.detail.startswith("variable ")}
    assert len(variables) == cells(saved_model_parts.count_parts(done.export)[0])["variables"]
    assert {target for _, target in graph.edges} == {node.name for node in graph.nodes} - {"model"}


def test_grappler_leaves_fewer_operations_and_folds_batch_normalisation(done: BuiltCase) -> None:
    loaded = tf.saved_model.load(str(done.export))
    before, after = (
        make(loaded.signatures["dense"]) for make in (grappler.inline_functions, grappler.optimize_with_grappler)
    )
    table = grappler.count_operations(before, after)
    assert cells(table)["all"] > 2 * cells(table, 2)["all"]
    assert cells(table)["Rsqrt"] == 7 and cells(table, 2)["Rsqrt"] == 0
    assert cells(table)["Conv2D"] == cells(table, 2)["Conv2D"] == 7
    pixels = np.random.default_rng(3).random((4, 8, 8, 1), np.float32)
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        tf.import_graph_def(after, name="")
        (source,) = (node.name for node in after.node if node.op == "Placeholder")
        answer = session.run(f"{after.node[-1].name}:0", {f"{source}:0": pixels})
        assert graph.get_operations()
    expected = loaded.signatures["dense"](pixels=tf.constant(pixels))["probabilities"]
    assert np.allclose(answer, expected, atol=1e-5)
