"""One contract for every use case, those of the catalog and a tiny third: from raw data to equal answers everywhere."""

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from support.built_case import SMALL, Built, build, built, pipeline
from support.command import ROOT
from support.tiny_case.case import CASE as TINY
from tfx_bsl.coders import example_coder

from components.training.lite_exporter import convert, run
from components.training.span_example_gen import Write
from models import spans
from models.catalog import CASES
from models.errors import DataError
from models.input import Transform, files
from models.saved_model import restore
from models.training.weight_digests import saved_weights_digest, weights_digest
from models.use_case import UseCase

pytestmark = pytest.mark.system

ALL = (*CASES.values(), TINY)
PARTS = {"__init__.py", "case.py", "data.py", "schema.pbtxt", "features.py", "model.py", "evaluation.py"}
SPLITS = ("train", "valid", "eval")
ROWS = 24
every_case = pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)


@pytest.fixture(scope="module", params=ALL, ids=lambda case: case.name)
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return built(request.param, tmp_path_factory)


# What a package is.


@every_case
def test_the_package_has_the_files_that_all_have(case: UseCase) -> None:
    assert {path.name for path in case.schema_path.parent.iterdir() if path.is_file()} >= PARTS


def test_the_third_case_needs_nothing_more() -> None:
    assert {path.name for path in TINY.schema_path.parent.iterdir() if path.is_file()} == PARTS
    lines = sum(len(path.read_text().splitlines()) for path in TINY.schema_path.parent.glob("*.py"))
    assert lines < 250


@every_case
def test_settings_come_in_groups_with_names_of_their_own(case: UseCase) -> None:
    assert set(case.settings) == {"data", "training", "gates"} | ({"embedding"} if case.has("sentences") else set())
    names = [name for group in case.settings.values() for name in group]
    assert len(names) == len(set(names))
    # What the shared loop, the splits and the gates ask every case for.
    needed = {"seed", "epochs", "max_steps", "patience", "batch_size", "learning_rate", "weight_decay"}
    assert needed <= set(case.settings["training"])
    assert {"lite_tolerance", "lite_metric_loss"} <= set(case.settings["gates"])


@every_case
def test_modules_agree_with_the_case_and_say_what_they_take(case: UseCase) -> None:
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
def test_the_evaluation_builds_bounds_the_headline_and_asks_the_served_signature(case: UseCase) -> None:
    import tensorflow_model_analysis as tfma

    settings = {name: value for group in case.configured({}).values() for name, value in group.items()}
    config = case.load("evaluation").eval_config({"classes": "a,b", **settings})
    tfma.utils.verify_eval_config(tfma.utils.update_eval_config_with_defaults(config, has_baseline=True))
    assert {spec.signature_name for spec in config.model_specs} == {"serving_default"}
    metrics = [metric for spec in config.metrics_specs for metric in spec.metrics]
    headline = [metric for metric in metrics if f'"name": "{case.headline}"' in metric.config]
    assert headline and any(_bounds(metric) for metric in headline)
    assert config.slicing_specs[0] == tfma.SlicingSpec()


def _bounds(metric: object) -> list[float]:
    """All lower bounds of a metric, over everything or a slice."""
    return [float(value) for value in re.findall(r"lower_bound {\s*value: ([\d.]+)", str(metric))]


@every_case
def test_a_folder_without_data_is_refused_in_one_sentence(case: UseCase, tmp_path: Path) -> None:
    (tmp_path / "span-000").mkdir()
    (tmp_path / "span-000" / "notes.txt").write_text("not data")
    data, settings = case.load("data"), case.configured({})["data"]
    with pytest.raises(DataError, match="span-000") as caught:
        data.check(spans.window(data.prepare(str(tmp_path), tmp_path, settings), -1, -1), settings)
    assert "\n" not in str(caught.value)


# What the stages make of it.


def test_examples_fit_the_curated_schema(done: Built) -> None:
    import tensorflow_data_validation as tfdv
    from tensorflow_data_validation.statistics import stats_impl

    decoder = example_coder.ExamplesToRecordBatchDecoder(done.schema.SerializeToString())
    options = tfdv.StatsOptions(schema=done.schema, infer_type_from_schema=True)
    for split in SPLITS:
        batch = decoder.DecodeBatch(records(done, split))
        statistics = stats_impl.generate_statistics_in_memory(batch, options)
        found = tfdv.validate_statistics(statistics, done.schema)
        assert not found.anomaly_info and not found.HasField("dataset_anomaly_info"), (split, found.anomaly_info)


def test_examples_hold_what_the_schema_names_and_no_row_is_in_two_splits(done: Built) -> None:
    names = {feature.name for feature in done.schema.feature}
    assert {done.case.label, done.case.key, *done.case.watch} <= names
    keys = []
    for split in SPLITS:
        examples = [tf.train.Example.FromString(one) for one in records(done, split)]
        assert examples and all(set(example.features.feature) <= names for example in examples)
        keys += [example.features.feature[done.case.key].bytes_list.value[0] for example in examples]
    assert len(keys) == len(set(keys)) > 100


def test_two_batches_that_begin_alike_are_both_kept(tmp_path: Path) -> None:
    rows = [
        pa.RecordBatch.from_pydict({"x": pa.array([[1.0], [value]], pa.list_(pa.float32()))}) for value in (2.0, 3.0)
    ]
    with pipeline() as beam_pipeline:
        _ = (
            beam_pipeline
            | beam.Create([("train", rows[0]), ("train", rows[1]), ("train", rows[0])])
            | beam.ParDo(Write(str(tmp_path)))
        )
    found = [
        tf.train.Example.FromString(one).features.feature["x"].float_list.value[0]
        for one in tf.data.TFRecordDataset(files(str(tmp_path), "train")).as_numpy_iterator()
    ]
    # The first batch came twice, as it does when a bundle is tried again, and counts once.
    assert sorted(found) == [1.0, 1.0, 2.0, 3.0]


def test_training_takes_whole_batches_and_leaves_finite_weights(done: Built) -> None:
    fitted = done.fitted
    assert fitted.rows == len(records(done, "train"))
    assert fitted.steps == fitted.rows // fitted.batch_size * len(fitted.curves) >= 2
    assert all(np.isfinite(weight).all() for weight in fitted.model.get_weights())
    assert all(np.isfinite(list(curve.values())).all() for curve in fitted.curves)


def test_the_metric_is_the_same_of_logits_and_of_served_scores(done: Built) -> None:
    """Baseline and LiteExporter measure scores; training measures logits."""
    network = done.case.load("model")
    logits = done.fitted.model({name: done.rows[name] for name in network.INPUTS}, training=False).numpy()
    scores = answers(done)["dense"][network.SCORE].reshape(len(logits), -1)
    truth = done.rows[network.LABEL]
    found, expected = network.quality(truth, scores), network.quality(truth, logits)
    assert {network.MONITOR} <= set(found) <= set(expected)  # scores alone say nothing of an anomaly
    assert found[network.MONITOR] == pytest.approx(expected[network.MONITOR], abs=2e-3)


def test_no_operating_point_turns_the_order_of_the_scores_round(done: Built) -> None:
    """A validation split may be small and say the opposite by chance."""
    network, width = done.case.load("model"), done.fitted.model.output_shape[1]
    logits = np.random.default_rng(1).normal(size=(300, width)).astype(np.float32)
    decides = answers(done)["dense"][done.case.score].ndim == 1  # yes or no, by the first output
    opposite = logits[:, :1] < 0 if decides else logits.argmin(axis=1)[:, None]
    point = network.operating_point(done.settings, opposite.astype(np.int64), logits)
    scores = network.answers(tf.constant(logits), point, done.settings)[done.case.score].numpy().reshape(300, -1)
    if decides:
        assert (np.diff(scores[np.argsort(logits[:, 0]), 0]) >= 0).all() and np.ptp(scores) > 0.1
    else:
        assert (scores.argmax(axis=1) == logits.argmax(axis=1)).all()


# The same answers through every door.


def records(done: Built, split: str) -> list[bytes]:
    """The split's serialized examples, shard by shard."""
    return list(tf.data.TFRecordDataset(files(str(done.examples), split)).as_numpy_iterator())


def by_key(done: Built, split: str) -> dict[bytes, tf.train.Example]:
    """The split's examples, whose bytes may name their features in any order."""
    examples = [tf.train.Example.FromString(one) for one in records(done, split)]
    return {one.features.feature[done.case.key].bytes_list.value[0]: one for one in examples}


@cache
def _loaded(path: str) -> tf.Module:
    return tf.saved_model.load(path)


def requests(done: Built) -> dict[str, dict[str, np.ndarray]]:
    """The first rows of eval for each signature, parsed by hand: a missing value is the type's empty one."""
    serialized = done.held[:ROWS]
    parsed = [tf.train.Example.FromString(one).features.feature for one in serialized]
    raw = {}
    for name, spec in _loaded(str(done.export)).signatures["raw"].structured_input_signature[1].items():
        kind, width = (
            ("bytes_list", "float_list", "int64_list")[(tf.string, tf.float32, tf.int64).index(spec.dtype)],
            spec.shape[1],
        )
        empty = [b"" if kind == "bytes_list" else 0] * width
        raw[name] = np.array(
            [list(getattr(one[name], kind).value) or empty for one in parsed], spec.dtype.as_numpy_dtype
        )
    inputs = done.case.load("model").INPUTS
    return {
        "serving_default": {"examples": np.array(serialized, object)},
        "raw": raw,
        "dense": {name: done.rows[name][:ROWS] for name in inputs},
    }


def answers(done: Built, whole: bool = True) -> dict[str, dict[str, np.ndarray]]:
    """What the loaded export answers; ``dense`` on the whole eval split where asked for."""
    signatures, asked = _loaded(str(done.export)).signatures, requests(done)
    if whole:
        asked = {"dense": {name: done.rows[name] for name in asked["dense"]}}
    return {
        name: {
            key: value.numpy()
            for key, value in signatures[name](**{k: tf.constant(v) for k, v in inputs.items()}).items()
        }
        for name, inputs in asked.items()
    }


def test_all_three_signatures_answer_as_the_trained_model_does(done: Built) -> None:
    network = done.case.load("model")
    logits = done.fitted.model({name: done.rows[name][:ROWS] for name in network.INPUTS}, training=False)
    expected = network.answers(logits, done.point, done.settings)
    found = answers(done, whole=False)
    assert set(found) == {"serving_default", "raw", "dense"}
    for signature, outputs in found.items():
        assert set(outputs) == set(expected) >= {done.case.score}
        for name, values in outputs.items():
            assert values.shape[0] == ROWS and np.isfinite(values).all()
            assert np.allclose(values, expected[name], atol=1e-5), (signature, name)
    assert np.ptp(found["raw"][done.case.score], axis=0).max() > 1e-4  # not one answer for everybody


# One process for all cases, as each spends most of its time on the import of TensorFlow.
LOAD = """
import sys
from serving import session_load
folders, sys.argv[1:] = sys.argv[1:], []
for folder in folders:
    sys.argv[1:] = [open(f"{folder}/export").read(), f"{folder}/requests.npz", f"{folder}/answers.npz"]
    session_load.main()
"""


@pytest.fixture(scope="module")
def answered_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, np.ndarray]]:
    """What each case's export answers in a fresh process, as ``signature/output``."""
    folders = {}
    for case in ALL:
        done, folder = built(case, tmp_path_factory), tmp_path_factory.mktemp(f"elsewhere-{case.name}")
        asked = {f"{signature}/{name}": v for signature, inputs in requests(done).items() for name, v in inputs.items()}
        np.savez(folder / "requests.npz", **asked)
        (folder / "export").write_text(str(done.export))
        folders[case.name] = folder
    command = [sys.executable, "-c", LOAD, *map(str, folders.values())]
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert process.returncode == 0, process.stderr[-2000:]
    return {name: dict(np.load(folder / "answers.npz")) for name, folder in folders.items()}


def test_a_fresh_process_loads_the_export_as_the_server_does_and_answers_equally(
    done: Built, answered_elsewhere: dict[str, dict[str, np.ndarray]]
) -> None:
    found, expected = answered_elsewhere[done.case.name], answers(done, whole=False)
    assert set(found) == {f"{signature}/{name}" for signature, outputs in expected.items() for name in outputs}
    for key in found:
        signature, name = key.split("/")
        assert np.allclose(found[key], expected[signature][name], atol=1e-5), key


def test_the_label_is_asked_of_nobody(done: Built) -> None:
    for signature in _loaded(str(done.export)).signatures.values():
        assert done.case.label not in signature.structured_input_signature[1]


def test_float32_on_the_edge_is_within_the_cases_tolerance(done: Built) -> None:
    network = done.case.load("model")
    inputs = {name: done.rows[name][:200] for name in network.INPUTS}
    found, _ = run(convert(str(done.export), "float32", inputs), inputs)
    expected = answers(done)["dense"]
    assert set(found) == set(expected)
    worst = float(np.max(np.abs(found[network.SCORE] - expected[network.SCORE][:200])))
    assert worst <= done.settings["lite_tolerance"]


def test_the_export_carries_its_operating_point_and_settings(done: Built) -> None:
    said = json.loads((done.export / "assets.extra" / "model.json").read_text())
    assert said == {"operating_point": done.point, "settings": done.settings}


def test_an_export_has_the_digest_of_the_model_it_was_made_of(done: Built) -> None:
    assert saved_weights_digest(done.export) == weights_digest(done.fitted.model)


def test_one_flipped_bit_in_any_weight_is_another_digest(done: Built) -> None:
    model = done.fitted.model
    before, weights = weights_digest(model), model.get_weights()
    for number in range(len(weights)):
        other = [one.copy() for one in weights]
        other[number].reshape(-1).view(np.uint8)[-1] ^= 1
        model.set_weights(other)
        assert weights_digest(model) != before, model.weights[number].path
    model.set_weights(weights)
    assert weights_digest(model) == before


def test_the_network_comes_back_from_its_export(done: Built) -> None:
    network, rows = done.case.load("model"), requests(done)["dense"]
    model = restore.model(str(done.export), network, Transform(str(done.graph)))
    assert restore.settings(str(done.export)) == json.loads(json.dumps(done.settings))
    again = network.answers(model(rows, training=False), done.point, done.settings)
    for name, values in answers(done, whole=False)["dense"].items():
        assert np.allclose(again[name], values, atol=1e-6), name


@pytest.mark.slow
def test_the_same_seed_gives_the_same_tiny_model(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    # Near, as a busy machine adds up in another order; that determinism gives equal bits is tested where it is on.
    first, second = built(TINY, tmp_path_factory), build(TINY, tmp_path / "again")
    other = build(TINY, tmp_path / "other", seed="2")
    assert by_key(first, "train") == by_key(second, "train")
    near, far = (one.fitted.model.get_weights() for one in (second, other))
    for one, same, unlike in zip(first.fitted.model.get_weights(), near, far, strict=True):
        assert np.allclose(one, same, atol=1e-5) and not np.allclose(one, unlike, atol=1e-3)


def test_the_small_settings_are_settings() -> None:
    for name, changes in SMALL.items():
        CASES[name].configured(changes)
