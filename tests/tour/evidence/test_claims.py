"""Evidence functions on small data with independently computed results, and on the demo's run."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from ml_metadata.proto import metadata_store_pb2 as mlmd
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from support.built_case import BuiltCase, get_built_case

from models import input as reading
from models.catalog import CASES
from models.image import model as image
from models.network import predict
from models.training import loop
from models.training.seeds import seed_everything
from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress
from pipeline.plan import Plan
from tour.evidence import overview, result_types
from tour.evidence.context import Context
from tour.evidence.data import raw_examples, transform_graph
from tour.evidence.training import trainer_output

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> BuiltCase:
    return get_built_case(CASES["image"], tmp_path_factory)


def cells(table: result_types.Table, column: int = 1) -> dict:
    return {row[0]: row[column] for row in table.rows}


@pytest.mark.parametrize("name", CASES)
def test_every_node_stands_on_a_library_and_is_joined(name: str) -> None:
    settings = CASES[name].configure({})
    nodes, edges = overview.build_graph(Plan(CASES[name], "/raw", 0, 1, settings, "", "/versions", ""))
    assert all("tfx" in used for used in nodes.values())
    expected = {
        "StatisticsGen": "tensorflow-data-validation",
        "Transform": "tensorflow-transform",
        "Trainer": "keras",
        "Evaluator": "tensorflow-model-analysis",
        "LiteExporter": "ai-edge-litert",
        "SpanExampleGen": "apache-beam",
    }
    assert all(library in nodes[node] for node, library in expected.items())
    assert {("DataGate", "Trainer"), ("Transform", "Trainer"), ("Evaluator", "Pusher")} <= set(edges)


def test_an_example_becomes_tensors_of_known_type_and_shape(done: BuiltCase) -> None:
    rows = raw_examples.example_steps(tf.constant(done.held[0]), reading.Transform(str(done.graph)), image.INPUTS)
    features = {(step, name): (dtype, shape, rank) for step, name, dtype, shape, rank, _ in rows}
    assert features["tf.Example", "examples"] == ("string", "(1,)", 1)
    assert features["parsed", "image"] == ("string", "(1, 1)", 2)
    assert features["transformed", "pixels"] == ("float32", "(1, 8, 8, 1)", 4)
    with pytest.raises(TypeError):
        tf.constant([1.0])[0] = 2.0


def test_lineage_leads_from_the_pushed_model_to_its_spans_and_to_nothing_else(tmp_path: Path) -> None:
    address = MetadataAddress.of(tmp_path)
    with store.open_for_writing(address) as metadata_store:
        artifact_types = {
            n: metadata_store.put_artifact_type(mlmd.ArtifactType(name=n)) for n in ("Examples", "Model", "PushedModel")
        }
        execution_types = {
            n: metadata_store.put_execution_type(mlmd.ExecutionType(name=n)) for n in ("Gen", "Trainer", "Pusher")
        }

        def make(kind: str, by: str, *sources: int, **properties: int) -> int:
            artifact = mlmd.Artifact(type_id=artifact_types[kind], uri=f"/{kind}")
            for name, value in properties.items():
                artifact.custom_properties[name].int_value = value
            (id_,) = metadata_store.put_artifacts([artifact])
            (execution,) = metadata_store.put_executions([mlmd.Execution(type_id=execution_types[by])])
            events = [
                mlmd.Event(artifact_id=source, execution_id=execution, type=mlmd.Event.INPUT) for source in sources
            ]
            metadata_store.put_events(
                [*events, mlmd.Event(artifact_id=id_, execution_id=execution, type=mlmd.Event.OUTPUT)]
            )
            return id_

        examples, other = make("Examples", "Gen", span=7, first_span=3), make("Examples", "Gen", span=9)
        pushed = make("PushedModel", "Pusher", make("Model", "Trainer", examples))
        make("Model", "Trainer", other)
    graph = overview.lineage(address, pushed)
    names = [node.name.split()[0] for node in graph.nodes]
    assert names == ["PushedModel", "Pusher", "Model", "Trainer", "Examples", "Gen"]
    assert graph.nodes[4].state == "span 7, first_span 3" and len(graph.edges) == 5


def test_an_epoch_is_every_whole_batch_once() -> None:
    rows, x = 150, np.random.default_rng(1).normal(size=(150, 8, 8, 1)).astype(np.float32)
    y = np.arange(rows, dtype=np.int64)[:, None] % 2
    both = {"pixels": x, "label_id": y}
    count, feed = reading.feed_from_memory(both, 32, 1)
    splits = loop.TrainingSplits({"pixels": tf.TensorSpec([None, 8, 8, 1])}, count, feed, both)
    fitted = loop.fit(image, tiny(epochs=3), splits)
    record = {"rows": fitted.rows, "batch_size": fitted.batch_size, "steps": fitted.steps, "curves": fitted.curves}
    table = trainer_output.compare_counts(record, rows)
    assert cells(table)["steps in total"] == 3 * (150 // 32) == 12
    assert cells(table)["examples left out of each epoch"] == 150 - 4 * 32
    assert all(cells(table, 3).values())
    assert not all(cells(trainer_output.compare_counts(record, rows + 32), 3).values())


def tiny(**changes: float | str) -> dict[str, float | str]:
    settings = {name: value for group in CASES["image"].settings.values() for name, value in group.items()}
    return {**settings, "classes": ["a", "b"], "filters": 4, "batch_size": 32, "patience": 99, **changes}


def test_components_keep_the_signal_in_fewer_columns() -> None:
    """The signal lies in a plane in forty dimensions, so two components are enough for a logistic model."""
    generator = np.random.default_rng(2)
    hidden, mix = generator.normal(size=(4000, 2)), generator.normal(size=(2, 40))
    x = (hidden @ mix + 0.05 * generator.normal(size=(4000, 40))).astype(np.float32)
    part = {"x": x, "pca": PCA(2).fit_transform(x[:3000]), "y": (hidden[:, :1] > hidden[:, 1:]).astype(np.int64)}
    part["pca"] = PCA(2).fit(x[:3000]).transform(x)
    train, evaluated = (
        {name: value[rows] for name, value in part.items()} for rows in (slice(3000), slice(3000, None))
    )
    views = {"all": lambda features: features["x"], "components": lambda features: features["pca"]}
    full, reduced = transform_graph.compare_views(
        views, train, evaluated, "y", lambda y, s: float(roc_auc_score(y[:, 0], s[:, 0]))
    )
    assert (full[1], reduced[1]) == (40, 2)
    assert reduced[2] > 0.98 and abs(full[2] - reduced[2]) < 0.01


def test_the_graphs_components_are_those_of_scikit_learn_on_the_train_split(done: BuiltCase) -> None:
    graph = reading.Transform(str(done.graph))
    train = reading.load(reading.list_shards(str(done.examples), "train"), graph, ("pixels", "pca"))
    flat = train["pixels"].reshape(len(train["pixels"]), -1)
    oracle = PCA(train["pca"].shape[1]).fit(flat)
    name, matrix = transform_graph.find_projection(train, image.INPUTS)
    assert name == "pixels"
    assert np.allclose(np.abs(np.sum(matrix * oracle.components_.T, axis=0)), 1, atol=1e-3)
    assert np.allclose(
        transform_graph.explained_variance(flat, train["pca"]), oracle.explained_variance_ratio_, atol=1e-4
    )
    evaluated = reading.load(reading.list_shards(str(done.examples), "eval"), graph, ("pixels", "pca"))
    assert np.allclose(evaluated["pixels"].reshape(len(evaluated["pca"]), -1) @ matrix, evaluated["pca"], atol=1e-3)


def test_tensor_and_array_agree_in_number_and_differ_in_kind() -> None:
    generator = np.random.default_rng(6)
    x, w = generator.normal(size=(50, 9)).astype(np.float32), generator.normal(size=(9, 3)).astype(np.float32)
    table, products, gradients = transform_graph.compare_tensor_and_array(x, w)
    assert products.value < 1e-5 and gradients.value < 1e-5
    tensor, array = cells(table, 1), cells(table, 2)
    assert "CPU" in tensor["device"] or "GPU" in tensor["device"]
    assert tensor["assign to [0, 0]"].startswith("TypeError") and array["assign to [0, 0]"] == "changed in place"


def test_the_image_network_learns_real_digits() -> None:
    digits = load_digits()
    x, y = (digits.images[..., None] / 16).astype(np.float32), digits.target[:, None].astype(np.int64)
    seed_everything({"seed": 1, "deterministic": False})
    train, evaluated = ({"pixels": x[rows], "label_id": y[rows]} for rows in (slice(1400), slice(1400, None)))
    rows, feed = reading.feed_from_memory(train, 64, 1)
    settings = tiny(classes=list("0123456789"), filters=12, batch_size=64, epochs=6)
    splits = loop.TrainingSplits({"pixels": tf.TensorSpec([None, 8, 8, 1])}, rows, feed, evaluated)
    fitted = loop.fit(image, settings, splits)
    assert image.quality(evaluated["label_id"], predict(fitted.model, evaluated))["accuracy"] > 0.9


class Rows:
    """Replacement for a transform: a record is a row of 1,024 numbers."""

    def parse(self, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"x": tf.reshape(tf.io.decode_raw(serialized, tf.float32), [-1, 1024])}


def test_streaming_ten_times_the_data_takes_no_more_memory(tmp_path: Path) -> None:
    record, rows = np.arange(1024, dtype=np.float32).tobytes(), 4096
    paths = [str(tmp_path / f"shard-{n}") for n in range(4)]
    for path in paths:
        with tf.io.TFRecordWriter(path) as writer:
            for _ in range(rows):
                writer.write(record)
    once, tenfold = (
        raw_examples.streaming_peak(lambda n=n: reading.dataset(paths * n, Rows(), ("x",))) for n in (1, 10)
    )
    assert (once[0], tenfold[0]) == (4 * rows, 40 * rows)
    assert tenfold[1] == 40 * rows * 4096
    # Compares the growth, as the peak itself depends on the buffers and on what the allocator keeps.
    assert tenfold[2] - once[2] < (tenfold[1] - once[1]) / 2


@pytest.mark.parametrize("case", CASES)
def test_evidence_agrees_with_the_run(pushed_home: Path, case: str) -> None:
    context = Context.of(pushed_home, case)
    assert all(cells(trainer_output.epoch_counts(context)[0], 3).values())
    facts = cells(overview.lineage_of_served(context)[1])
    assert facts["run"] == context.run.id and facts["data_version"] == context.run.facts["data_version"]
    states = {node.state for node in overview.run_graph(context).nodes}
    assert states <= {"done", "cached"}
