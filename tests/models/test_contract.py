"""Contract tests of every use case, those of the catalog and a tiny third: from raw data to equal answers."""

import re
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from support.built_case import SMALL, BuiltCase, build, compute_answers, get_built_case, pipeline, read_records
from support.tiny_case.case import CASE as TINY
from support.tiny_case.case import EVERY_CASE
from tfx_bsl.coders import example_coder

from components.training.span_example_gen import Write
from models import spans
from models.catalog import CASES
from models.errors import DataError
from models.input import list_shards
from models.use_case import UseCase

pytestmark = pytest.mark.system

PARTS = {"__init__.py", "case.py", "data.py", "schema.pbtxt", "features.py", "model.py", "evaluation.py"}
SPLITS = ("train", "valid", "eval")
every_case = pytest.mark.parametrize("case", EVERY_CASE, ids=lambda case: case.name)


# The package of a use case.


@every_case
def test_the_package_has_the_files_that_all_have(case: UseCase) -> None:
    assert {path.name for path in case.schema_path.parent.iterdir() if path.is_file()} >= PARTS


def test_the_tiny_case_has_only_the_required_files() -> None:
    assert {path.name for path in TINY.schema_path.parent.iterdir() if path.is_file()} == PARTS
    lines = sum(len(path.read_text().splitlines()) for path in TINY.schema_path.parent.glob("*.py"))
    assert lines < 250


@every_case
def test_settings_come_in_groups_with_names_of_their_own(case: UseCase) -> None:
    assert set(case.settings) == {"data", "training", "gates"} | ({"embedding"} if case.has("sentences") else set())
    names = [name for group in case.settings.values() for name in group]
    assert len(names) == len(set(names))
    # Settings that the shared loop, the splits and the gates need from every case.
    needed = {"seed", "epochs", "max_steps", "patience", "batch_size", "learning_rate", "weight_decay"}
    assert needed <= set(case.settings["training"])
    assert {"lite_tolerance", "lite_metric_loss"} <= set(case.settings["gates"])


@every_case
def test_modules_agree_with_the_case_and_are_documented(case: UseCase) -> None:
    network = case.load("model")
    assert (case.label, case.score) == (network.LABEL, network.SCORE)
    assert case.label not in network.INPUTS and case.key not in network.INPUTS
    for part, names in {
        "data": ("prepare", "check", "examples"),
        "features": ("preprocessing_fn",),
        "model": ("build", "loss", "quality", "operating_point", "answers"),
        "evaluation": ("eval_config",),
    }.items():
        for name in names:
            assert callable(getattr(case.load(part), name)) and getattr(case.load(part), name).__doc__


@every_case
def test_eval_config_is_valid_and_bounds_the_headline_metric(case: UseCase) -> None:
    import tensorflow_model_analysis as tfma

    settings = {name: value for group in case.configure({}).values() for name, value in group.items()}
    config = case.load("evaluation").eval_config({"classes": ["a", "b"], **settings})
    tfma.utils.verify_eval_config(tfma.utils.update_eval_config_with_defaults(config, has_baseline=True))
    assert {spec.signature_name for spec in config.model_specs} == {"serving_default"}
    metrics = [metric for spec in config.metrics_specs for metric in spec.metrics]
    headline = [metric for metric in metrics if f'"name": "{case.headline}"' in metric.config]
    assert headline and any(_find_bounds(metric) for metric in headline)
    assert config.slicing_specs[0] == tfma.SlicingSpec()


def _find_bounds(metric: object) -> list[float]:
    """All lower bounds of a metric, over everything or a slice."""
    return [float(value) for value in re.findall(r"lower_bound {\s*value: ([\d.]+)", str(metric))]


@every_case
def test_a_folder_without_data_is_refused_in_one_sentence(case: UseCase, tmp_path: Path) -> None:
    (tmp_path / "span-000").mkdir()
    (tmp_path / "span-000" / "notes.txt").write_text("not data")
    data, settings = case.load("data"), case.configure({})["data"]
    try:
        report = data.check(spans.select_window(data.prepare(str(tmp_path), tmp_path, settings), -1, -1), settings)
        (message,) = report.refused
    except DataError as error:
        message = str(error)
    assert "span-000" in message and "\n" not in message


# The outputs of the stages.


def test_examples_fit_the_curated_schema(small_run: BuiltCase) -> None:
    import tensorflow_data_validation as tfdv
    from tensorflow_data_validation.statistics import stats_impl

    decoder = example_coder.ExamplesToRecordBatchDecoder(small_run.schema.SerializeToString())
    options = tfdv.StatsOptions(schema=small_run.schema, infer_type_from_schema=True)
    for split in SPLITS:
        batch = decoder.DecodeBatch(read_records(small_run, split))
        statistics = stats_impl.generate_statistics_in_memory(batch, options)
        anomalies = tfdv.validate_statistics(statistics, small_run.schema)
        assert not anomalies.anomaly_info and not anomalies.HasField("dataset_anomaly_info"), (
            split,
            anomalies.anomaly_info,
        )


def test_examples_hold_what_the_schema_names_and_no_row_is_in_two_splits(small_run: BuiltCase) -> None:
    names = {feature.name for feature in small_run.schema.feature}
    assert {small_run.case.label, small_run.case.key, *small_run.case.watch} <= names
    keys = []
    for split in SPLITS:
        examples = [tf.train.Example.FromString(data) for data in read_records(small_run, split)]
        assert examples and all(set(example.features.feature) <= names for example in examples)
        keys += [example.features.feature[small_run.case.key].bytes_list.value[0] for example in examples]
    assert len(keys) == len(set(keys)) > 100


def test_batches_with_an_equal_first_row_get_separate_shards(tmp_path: Path) -> None:
    rows = [
        pa.RecordBatch.from_pydict({"x": pa.array([[1.0], [value]], pa.list_(pa.float32()))}) for value in (2.0, 3.0)
    ]
    with pipeline() as beam_pipeline:
        _ = (
            beam_pipeline
            | beam.Create([("train", rows[0]), ("train", rows[1]), ("train", rows[0])])
            | beam.ParDo(Write(str(tmp_path)))
        )
    values = [
        tf.train.Example.FromString(data).features.feature["x"].float_list.value[0]
        for data in tf.data.TFRecordDataset(list_shards(str(tmp_path), "train")).as_numpy_iterator()
    ]
    # The first batch is written twice, as when a bundle is retried, and counts once.
    assert sorted(values) == [1.0, 1.0, 2.0, 3.0]


def test_training_takes_whole_batches_and_leaves_finite_weights(small_run: BuiltCase) -> None:
    fitted = small_run.fitted
    assert fitted.rows == len(read_records(small_run, "train"))
    assert fitted.steps == fitted.rows // fitted.batch_size * len(fitted.curves) >= 2
    assert all(np.isfinite(weight).all() for weight in fitted.model.get_weights())
    assert all(np.isfinite(list(curve.values())).all() for curve in fitted.curves)


def test_the_metric_is_the_same_of_logits_and_of_served_scores(small_run: BuiltCase) -> None:
    """Baseline and LiteExporter measure scores; training measures logits."""
    network = small_run.case.load("model")
    logits = small_run.fitted.model({name: small_run.rows[name] for name in network.INPUTS}, training=False).numpy()
    scores = compute_answers(small_run)["dense"][network.SCORE].reshape(len(logits), -1)
    truth = small_run.rows[network.LABEL]
    of_scores, of_logits = network.quality(truth, scores), network.quality(truth, logits)
    assert {network.MONITOR} <= set(of_scores) <= set(of_logits)  # scores alone do not give the anomaly metrics
    assert of_scores[network.MONITOR] == pytest.approx(of_logits[network.MONITOR], abs=2e-3)


def test_operating_point_keeps_the_order_of_the_scores(small_run: BuiltCase) -> None:
    """A small validation split may suggest the reverse order by chance."""
    network, width = small_run.case.load("model"), small_run.fitted.model.output_shape[1]
    logits = np.random.default_rng(1).normal(size=(300, width)).astype(np.float32)
    decides = compute_answers(small_run)["dense"][small_run.case.score].ndim == 1  # yes or no, by the first output
    opposite = logits[:, :1] < 0 if decides else logits.argmin(axis=1)[:, None]
    point = network.operating_point(small_run.settings, opposite.astype(np.int64), logits)
    scores = (
        network.answers(tf.constant(logits), point, small_run.settings)[small_run.case.score].numpy().reshape(300, -1)
    )
    if decides:
        assert (np.diff(scores[np.argsort(logits[:, 0]), 0]) >= 0).all() and np.ptp(scores) > 0.1
    else:
        assert (scores.argmax(axis=1) == logits.argmax(axis=1)).all()


def by_key(small_run: BuiltCase, split: str) -> dict[bytes, tf.train.Example]:
    """The split's examples, whose bytes may name their features in any order."""
    examples = [tf.train.Example.FromString(data) for data in read_records(small_run, split)]
    return {example.features.feature[small_run.case.key].bytes_list.value[0]: example for example in examples}


@pytest.mark.slow
def test_the_same_seed_gives_the_same_tiny_model(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    # Close, not equal: on a busy machine sums run in another order. Another test covers deterministic operations.
    first, second = get_built_case(TINY, tmp_path_factory), build(TINY, tmp_path / "again")
    other = build(TINY, tmp_path / "other", seed="2")
    assert by_key(first, "train") == by_key(second, "train")
    near, far = (model.fitted.model.get_weights() for model in (second, other))
    for model, equal, different in zip(first.fitted.model.get_weights(), near, far, strict=True):
        assert np.allclose(model, equal, atol=1e-5) and not np.allclose(model, different, atol=1e-3)


def test_small_settings_are_valid() -> None:
    for name, changes in SMALL.items():
        CASES[name].configure(changes)
