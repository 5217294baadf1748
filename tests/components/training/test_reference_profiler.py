"""What the stage before the push counts: rows that training has not looked at, the model's own scores, pixels."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import average_precision_score
from support.built_case import Built, built
from tfx.types import Artifact, standard_artifacts

from components.training.reference_profiler import Normal, NormalFiles
from models.catalog import find
from models.use_case import UseCase
from serving.drift.reference import reference_profile as normals

pytestmark = pytest.mark.system


CASES_TO_BUILD = [
    pytest.param(find("fraud"), id="fraud", marks=pytest.mark.slow),
    pytest.param(find("image"), id="image"),
]


@pytest.fixture(scope="module", params=CASES_TO_BUILD)
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Built, normals.Normal]:
    """A small run of each case, and what the component makes of it."""
    case: UseCase = request.param
    made, folder = built(case, tmp_path_factory), tmp_path_factory.mktemp("normal")
    (folder / "model").mkdir()
    (folder / "model" / "Format-Serving").symlink_to(made.export)
    inputs = {
        "model": [at(standard_artifacts.Model, folder / "model")],
        "examples": [at(standard_artifacts.Examples, made.examples)],
        "transform_graph": [at(standard_artifacts.TransformGraph, made.graph)],
    }
    out = {"normal": [at(NormalFiles, folder / "out")]}
    Normal.EXECUTOR_SPEC.executor_class().Do(inputs, out, {"config": json.dumps({"case": case.name})})
    return made, normals.Normal.load(folder / "out")


def at(kind: type, folder: Path) -> Artifact:
    artifact = kind()
    artifact.uri = str(folder)
    return artifact


def split(made: Built, name: str) -> list[tf.train.Example]:
    shards = sorted(str(path) for path in Path(made.examples, f"Split-{name}").iterdir())
    return [tf.train.Example.FromString(one) for one in tf.data.TFRecordDataset(shards).as_numpy_iterator()]


def test_inputs_scores_and_predictions_are_counted(done: tuple[Built, normals.Normal]) -> None:
    made, known = done
    names = {column.name for column in known.layout}
    answers = {"score", "predicted"} if made.case.time else {"confidence", "entropy", "predicted", "roughness"}
    assert names == {*made.case.watch, *answers, *(f"{name}_unexplained" for name in made.case.explained)}


def test_rows_are_those_that_training_has_not_looked_at(done: tuple[Built, normals.Normal]) -> None:
    made, known = done
    rows = split(made, "normal" if made.case.time else "eval")
    assert known.baseline.pooled.rows == len(rows)
    if made.case.time:
        days = {row.features.feature["event_time"].int64_list.value[0] // 86_400 for row in rows}
        parts = made.case.load("data").splits(made.settings)
        assert days == set(range(parts["valid"].stop, made.settings["last_day"] + 1)) and known.days == len(days)


def test_scores_are_the_exported_models_and_the_metric_is_that_of_eval(done: tuple[Built, normals.Normal]) -> None:
    made, known = done
    serve = tf.saved_model.load(str(made.export)).signatures["serving_default"]
    held = serve(examples=tf.constant(made.held))[made.case.score].numpy()
    rows = [tf.train.Example.FromString(one).features.feature for one in made.held]
    truth = np.array([row[made.case.label].int64_list.value[0] for row in rows])
    if made.case.time:
        assert known.usual.value == pytest.approx(average_precision_score(truth, held.reshape(-1)), abs=1e-6)
    else:
        assert known.usual.value == pytest.approx(np.mean(held.argmax(axis=1) == truth))
        assert known.baseline.pooled.mean("confidence") == pytest.approx(held.max(axis=1).mean(), abs=1e-3)
        classes = made.settings["classes"].split(",")
        counted = known.baseline.pooled["predicted"].bins
        at = next(one for one in known.layout if one.name == "predicted")
        for place, name in enumerate(at.values):
            assert counted[place] == (held.argmax(axis=1) == classes.index(name)).sum()
