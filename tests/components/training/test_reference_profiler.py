"""The reference profile: held-out rows, the exported model's scores, and pixels."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import average_precision_score
from support.built_case import BuiltCase, get_built_case
from tfx.types import Artifact, standard_artifacts

from components.training.reference_profiler import Normal, NormalFiles
from models.catalog import find_use_case
from models.use_case import UseCase
from serving.drift.reference import reference_profile

pytestmark = pytest.mark.system

ProfiledRun = tuple[BuiltCase, reference_profile.ReferenceProfile]


CASES_TO_BUILD = [
    pytest.param(find_use_case("fraud"), id="fraud", marks=pytest.mark.slow),
    pytest.param(find_use_case("image"), id="image"),
]


@pytest.fixture(scope="module", params=CASES_TO_BUILD)
def profiled_run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[BuiltCase, reference_profile.ReferenceProfile]:
    """A small run of each case, and the component's reference profile."""
    case: UseCase = request.param
    small_run, folder = get_built_case(case, tmp_path_factory), tmp_path_factory.mktemp("normal")
    (folder / "model").mkdir()
    (folder / "model" / "Format-Serving").symlink_to(small_run.export)
    inputs = {
        "model": [at(standard_artifacts.Model, folder / "model")],
        "examples": [at(standard_artifacts.Examples, small_run.examples)],
        "transform_graph": [at(standard_artifacts.TransformGraph, small_run.graph)],
    }
    out = {"normal": [at(NormalFiles, folder / "out")]}
    Normal.EXECUTOR_SPEC.executor_class().Do(inputs, out, {"config": json.dumps({"case": case.name})})
    return small_run, reference_profile.ReferenceProfile.load(folder / "out")


def at(kind: type, folder: Path) -> Artifact:
    artifact = kind()
    artifact.uri = str(folder)
    return artifact


def split(small_run: BuiltCase, name: str) -> list[tf.train.Example]:
    shards = sorted(str(path) for path in Path(small_run.examples, f"Split-{name}").iterdir())
    return [tf.train.Example.FromString(data) for data in tf.data.TFRecordDataset(shards).as_numpy_iterator()]


def test_inputs_scores_and_predictions_are_counted(profiled_run: ProfiledRun) -> None:
    small_run, profile = profiled_run
    names = {column.name for column in profile.layout}
    answers = {"score", "predicted"} if small_run.case.time else {"confidence", "entropy", "predicted", "roughness"}
    assert names == {*small_run.case.watch, *answers, *(f"{name}_unexplained" for name in small_run.case.explained)}


def test_profile_is_of_held_out_rows(profiled_run: ProfiledRun) -> None:
    small_run, profile = profiled_run
    rows = split(small_run, "normal" if small_run.case.time else "eval")
    assert profile.baseline.pooled.rows == len(rows)
    if small_run.case.time:
        days = {row.features.feature["event_time"].int64_list.value[0] // 86_400 for row in rows}
        parts = small_run.case.load("data").splits(small_run.settings)
        assert days == set(range(parts["valid"].stop, small_run.settings["last_day"] + 1)) and profile.days == len(days)


def test_scores_are_the_exported_models_and_the_metric_is_that_of_eval(
    profiled_run: ProfiledRun,
) -> None:
    small_run, profile = profiled_run
    serve = tf.saved_model.load(str(small_run.export)).signatures["serving_default"]
    answers = serve(examples=tf.constant(small_run.held))[small_run.case.score].numpy()
    rows = [tf.train.Example.FromString(data).features.feature for data in small_run.held]
    truth = np.array([row[small_run.case.label].int64_list.value[0] for row in rows])
    if small_run.case.time:
        assert profile.usual.value == pytest.approx(average_precision_score(truth, answers.reshape(-1)), abs=1e-6)
    else:
        assert profile.usual.value == pytest.approx(np.mean(answers.argmax(axis=1) == truth))
        assert profile.baseline.pooled.mean("confidence") == pytest.approx(answers.max(axis=1).mean(), abs=1e-3)
        classes = small_run.settings["classes"]
        counted = profile.baseline.pooled["predicted"].bins
        at = next(column for column in profile.layout if column.name == "predicted")
        for place, name in enumerate(at.values):
            assert counted[place] == (answers.argmax(axis=1) == classes.index(name)).sum()
