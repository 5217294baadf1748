"""Both pipelines end to end: pushed versions, served predictions, refusals and cached runs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from sklearn.metrics import average_precision_score
from support.command import ROOT, command_server, showcase
from support.in_process import run_in_process
from support.pushed_home import SMALL_RUNS, copy_home, format_settings, read_runs
from support.small_runs import FEW
from tensorflow_metadata.proto.v0 import statistics_pb2

from models.catalog import CASES
from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress
from pipeline.run import Run

pytestmark = pytest.mark.system

SMALL = {case: format_settings(settings) for case, settings in SMALL_RUNS.items()}


def find_pushed_run(home: Path, case: str) -> Run:
    return [run for run in store.runs(MetadataAddress.of(home), case) if run.state == "pushed"][0]


def artifact_folder(home: Path, case: str, node: str, output: str) -> Path:
    return Path(store.outputs(MetadataAddress.of(home), find_pushed_run(home, case).id)[node][output].uri)


def eval_examples(home: Path, case: str) -> list[bytes]:
    shards = sorted(artifact_folder(home, case, "SpanExampleGen", "examples").glob("Split-eval/*"))
    return [bytes(record) for record in tf.data.TFRecordDataset([str(s) for s in shards]).as_numpy_iterator()]


def predict(version: Path, examples: list[bytes]) -> dict[str, np.ndarray]:
    signature = tf.saved_model.load(str(version)).signatures["serving_default"]
    return {name: value.numpy() for name, value in signature(examples=tf.constant(examples)).items()}


def predict_fraud(home: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return labels of the fraud case's eval split and the pushed version's predictions."""
    examples = eval_examples(home, "fraud")
    labels = [tf.train.Example.FromString(e).features.feature["is_fraud"].int64_list.value[0] for e in examples]
    return np.array(labels), predict(home / "fraud" / "versions" / "1", examples)


def measure_image_accuracy(home: Path) -> float:
    """Return the pushed version's accuracy on the image case's eval split."""
    examples = eval_examples(home, "image")
    labels = [tf.train.Example.FromString(e).features.feature["label_id"].int64_list.value[0] for e in examples]
    probabilities = predict(home / "image" / "versions" / "1", examples)["probabilities"]
    assert probabilities.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    return float(np.mean(probabilities.argmax(axis=1) == np.array(labels)))


@pytest.fixture
def home_copy(pushed_home: Path, tmp_path: Path) -> Path:
    return copy_home(pushed_home, tmp_path)


def test_every_case_is_pushed_with_a_reason(pushed_home):
    for case in CASES:
        run = read_runs(pushed_home)[case]
        assert run["state"] == "pushed" and "blessed within" in run["reason"], run


def test_fraud_metrics_match_scikit_learn_on_served_predictions(pushed_home):
    labels, predictions = predict_fraud(pushed_home)
    metrics = json.loads(find_pushed_run(pushed_home, "fraud").facts["metrics"])
    assert average_precision_score(labels, predictions["score"]) == pytest.approx(metrics["pr_auc"], abs=0.02)
    settings = CASES["fraud"].settings["training"]
    wrong = labels != predictions["decision"]
    cost = np.where(labels == 1, settings["miss_cost"], settings["review_cost"])[wrong].sum() / len(labels)
    assert cost == pytest.approx(metrics["cost"], rel=1e-4)
    assert 0 < predictions["decision"].sum() < len(labels)


def test_image_accuracy_matches_served_predictions(pushed_home):
    recorded = json.loads(find_pushed_run(pushed_home, "image").facts["metrics"])["accuracy"]
    assert measure_image_accuracy(pushed_home) == pytest.approx(recorded, abs=1e-6)


@pytest.mark.slow
def test_default_models_reach_their_metrics_and_beat_logistic_regression(default_home):
    labels, predictions = predict_fraud(default_home)
    metrics = json.loads(find_pushed_run(default_home, "fraud").facts["metrics"])
    assert average_precision_score(labels, predictions["score"]) == pytest.approx(metrics["pr_auc"], abs=0.02)
    assert metrics["pr_auc"] > 0.45 and predictions["decision"].sum() > 0
    assert measure_image_accuracy(default_home) > 0.93
    comparison = json.loads(
        (artifact_folder(default_home, "fraud", "Baseline", "comparison") / "comparison.json").read_text()
    )
    by_name = {row["model"]: row["metric"] for row in comparison["rows"]}
    assert by_name["network"] > by_name["logistic regression"]


def test_network_and_baselines_are_compared_on_the_same_rows(pushed_home):
    comparison = json.loads(
        (artifact_folder(pushed_home, "fraud", "Baseline", "comparison") / "comparison.json").read_text()
    )
    by_name = {row["model"]: row["metric"] for row in comparison["rows"]}
    metrics = json.loads(find_pushed_run(pushed_home, "fraud").facts["metrics"])
    assert by_name["network"] == pytest.approx(metrics["pr_auc"], abs=0.02)
    summary = find_pushed_run(pushed_home, "fraud").facts["comparison"]
    assert all(f"{name} {metric:.4f}" in summary for name, metric in by_name.items())


def test_pushed_version_contains_reference_profile_and_lite_model(pushed_home):
    version = pushed_home / "fraud" / "versions" / "1"
    profile = statistics_pb2.DatasetFeatureStatisticsList.FromString(
        (version / "assets.extra" / "profile.pb").read_bytes()
    )
    assert profile.datasets[0].num_examples == len(eval_examples(pushed_home, "fraud"))
    assert "amount" in {feature.path.step[0] for feature in profile.datasets[0].features}
    for name in (
        "model.json",
        "lite.json",
        "one_row.tflite",
        "samples.npz",
        "origin.json",
        "tf_serving_warmup_requests",
    ):
        assert (version / "assets.extra" / name).stat().st_size > 0
    assert (version / "model.tflite").read_bytes()[4:8] == b"TFL3"


def test_second_run_of_the_same_input_is_fully_cached(home_copy):
    earlier_run = find_pushed_run(home_copy, "image")
    process = showcase(
        "run", "image", "--home", home_copy, "--json", "--data", earlier_run.facts["source"], *SMALL["image"]
    )
    assert process.returncode == 0, process.stderr
    run = json.loads(process.stdout)
    assert run["state"] == "pushed" and run["facts"]["same_as"] == earlier_run.id
    states = store.stage_states(MetadataAddress.of(home_copy), run["id"])
    assert set(states.values()) == {"cached"} and len(states) == 15


def test_cached_run_does_not_import_tensorflow(home_copy):
    source = find_pushed_run(home_copy, "image").facts["source"]
    arguments = ["showcase", "run", "image", "--home", str(home_copy), "--data", source, *SMALL["image"]]
    probe = f"import sys; sys.argv = {arguments!r}\nfrom cli.main import main\ntry:\n    main()\nexcept SystemExit as end:\n"
    probe += "    print('left with', end.code, sorted({'tensorflow', 'tfx', 'apache_beam'} & set(sys.modules)))"
    process = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, cwd=ROOT)
    assert process.stdout.splitlines()[-1] == "left with 0 []", process.stdout + process.stderr


@pytest.mark.slow
def test_worse_candidate_is_refused_and_status_shows_the_reason(home_copy):
    source = find_pushed_run(home_copy, "fraud").facts["source"]
    process = showcase(
        "run", "fraud", "--home", home_copy, "--data", source, *SMALL["fraud"], "--set", "learning_rate=0.0000001"
    )
    assert process.returncode == 1
    status = showcase("status", "fraud", "--home", home_copy).stdout
    assert (
        "refused" in status and "pr_auc of the whole eval split is" in status and "below the blessed model's" in status
    )
    assert "versions/1" in status
    assert [p.name for p in (home_copy / "fraud" / "versions").iterdir()] == ["1"]


@pytest.mark.slow
def test_many_unknown_categories_are_refused_and_nothing_is_pushed(home_copy, tmp_path):
    source, flooded = Path(find_pushed_run(home_copy, "fraud").facts["source"]), tmp_path / "flooded"
    shutil.copytree(source, flooded)
    spans = sorted(flooded.glob("span-*"))
    for span in spans[len(spans) // 3 : 2 * len(spans) // 3]:
        path = span / "transactions.parquet"
        table = pq.read_table(path).to_pandas()
        table.loc[table.index % 2 == 0, "category"] = "crypto"
        table.to_parquet(path)
    process = showcase("run", "fraud", "--home", home_copy, "--data", flooded, *SMALL["fraud"])
    assert process.returncode == 1
    assert "refused" in process.stdout and "feature 'category'" in process.stdout and "crypto" in process.stdout
    assert [p.name for p in (home_copy / "fraud" / "versions").iterdir()] == ["1"]


def test_invalid_arguments_print_one_sentence_without_traceback(tmp_path, monkeypatch):
    # Without load_data, so that reading MNIST fails and nothing is downloaded.
    fake_mnist = ModuleType("keras.datasets.mnist")
    monkeypatch.setitem(sys.modules, fake_mnist.__name__, fake_mnist)
    for arguments, sentence in (
        (["run", "spam"], "no use case 'spam'"),
        (["run", "fraud", "--set", "speed=1"], "no setting 'speed'"),
        (["run", "fraud", "--set", "epochs=many"], "takes a whole number"),
        (["run", "fraud", "--set", "valid_days=-5"], "'valid_days' is -5; it must be from 1 to 3,650 days"),
        (["check", "image", "--set", "eval_share=0.95"], "'eval_share' is 0.95; it must be from 0.001 to 0.9"),
        (["run", "fraud", "--data", "nowhere"], "no folder"),
        (["run", "fraud", "--spans", "9"], "FIRST:LAST"),
        (["run", "image", "--data", "mnist"], "mnist"),
    ):
        result = run_in_process(*arguments, "--home", tmp_path)
        assert result.returncode == 2, (arguments, result.stdout, result.stderr)
        assert sentence in result.stderr and len(result.stderr.splitlines()) == 1, (arguments, result.stderr)
    process = showcase("run", "spam", "--home", tmp_path)
    assert process.returncode == 2 and "no use case 'spam'" in process.stderr and "Traceback" not in process.stderr


@pytest.mark.slow
def test_fresh_run_with_the_same_seed_reproduces_the_weights(tmp_path):
    """Examples, transform graph, embedding and weights are computed twice; ``--fresh`` disables the cache."""
    setting_arguments = format_settings({**FEW["fraud"], "epochs": 2, "deterministic": "true"})
    arguments = ("run", "fraud", "--seed", 1, "--home", tmp_path, "--tracking", "none", "--json", *setting_arguments)
    digests = []
    for options in ([], ["--fresh"]):
        program = "tests.support.part_of_graph"
        process = command_server().run(program, "trainer", *arguments, *options, cwd=ROOT, timeout=1200)
        assert process.returncode == 0, process.stdout + process.stderr
        run = json.loads(process.stdout)["id"]
        assert set(store.stage_states(MetadataAddress.of(tmp_path), run).values()) == {"done"}
        outputs = store.outputs(MetadataAddress.of(tmp_path), run)
        digests.append(json.loads(Path(outputs["Trainer"]["model_run"].uri, "training.json").read_text())["weights"])
    assert digests[0] == digests[1]
