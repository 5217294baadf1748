"""Both pipelines for real: what is pushed, what is served, what is refused, what is cached."""

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
from support.pushed_home import SMALL_RUNS, as_words, copy_home, ended_runs
from support.small_runs import FEW
from tensorflow_metadata.proto.v0 import statistics_pb2

from models.catalog import CASES
from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress

pytestmark = pytest.mark.system

SMALL = {case: as_words(settings) for case, settings in SMALL_RUNS.items()}


def pushed(home: Path, case: str) -> store.Run:
    return [run for run in store.runs(MetadataAddress.of(home), case) if run.state == "pushed"][0]


def artifact(home: Path, case: str, node: str, output: str) -> Path:
    return Path(store.outputs(MetadataAddress.of(home), pushed(home, case).id)[node][output].uri)


def eval_examples(home: Path, case: str) -> list[bytes]:
    shards = sorted(artifact(home, case, "SpanExampleGen", "examples").glob("Split-eval/*"))
    return [bytes(record) for record in tf.data.TFRecordDataset([str(s) for s in shards]).as_numpy_iterator()]


def answers(version: Path, examples: list[bytes]) -> dict[str, np.ndarray]:
    signature = tf.saved_model.load(str(version)).signatures["serving_default"]
    return {name: value.numpy() for name, value in signature(examples=tf.constant(examples)).items()}


def served_score(home: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Labels of the fraud case's eval split, and what the pushed version answers to its rows."""
    examples = eval_examples(home, "fraud")
    truth = [tf.train.Example.FromString(e).features.feature["is_fraud"].int64_list.value[0] for e in examples]
    return np.array(truth), answers(home / "fraud" / "versions" / "1", examples)


def served_accuracy(home: Path) -> float:
    """Share of the image case's eval split to which the pushed version answers with the right class."""
    examples = eval_examples(home, "image")
    truth = [tf.train.Example.FromString(e).features.feature["label_id"].int64_list.value[0] for e in examples]
    served = answers(home / "image" / "versions" / "1", examples)["probabilities"]
    assert served.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    return float(np.mean(served.argmax(axis=1) == np.array(truth)))


@pytest.fixture
def copied(pushed_home: Path, tmp_path: Path) -> Path:
    return copy_home(pushed_home, tmp_path)


def test_every_case_is_pushed_with_its_reason(pushed_home):
    for case in CASES:
        run = ended_runs(pushed_home)[case]
        assert run["state"] == "pushed" and "blessed within" in run["reason"], run


def test_the_fraud_models_metric_is_what_scikit_learn_says_of_its_served_answers(pushed_home):
    truth, served = served_score(pushed_home)
    metrics = json.loads(pushed(pushed_home, "fraud").facts["metrics"])
    assert average_precision_score(truth, served["score"]) == pytest.approx(metrics["pr_auc"], abs=0.02)
    prices = CASES["fraud"].settings["training"]
    wrong = truth != served["decision"]
    cost = np.where(truth == 1, prices["miss_cost"], prices["review_cost"])[wrong].sum() / len(truth)
    assert cost == pytest.approx(metrics["cost"], rel=1e-4)
    assert 0 < served["decision"].sum() < len(truth)


def test_the_image_models_metric_is_the_share_of_right_served_answers(pushed_home):
    recorded = json.loads(pushed(pushed_home, "image").facts["metrics"])["accuracy"]
    assert served_accuracy(pushed_home) == pytest.approx(recorded, abs=1e-6)


@pytest.mark.slow
def test_served_models_of_default_runs_reach_their_metrics_and_beat_a_linear_model(default_home):
    truth, served = served_score(default_home)
    metrics = json.loads(pushed(default_home, "fraud").facts["metrics"])
    assert average_precision_score(truth, served["score"]) == pytest.approx(metrics["pr_auc"], abs=0.02)
    assert metrics["pr_auc"] > 0.45 and served["decision"].sum() > 0
    assert served_accuracy(default_home) > 0.93
    comparison = json.loads((artifact(default_home, "fraud", "Baseline", "comparison") / "comparison.json").read_text())
    by_name = {row["model"]: row["metric"] for row in comparison["rows"]}
    assert by_name["network"] > by_name["logistic regression"]


def test_the_network_is_compared_with_baselines_on_the_same_rows(pushed_home):
    comparison = json.loads((artifact(pushed_home, "fraud", "Baseline", "comparison") / "comparison.json").read_text())
    by_name = {row["model"]: row["metric"] for row in comparison["rows"]}
    metrics = json.loads(pushed(pushed_home, "fraud").facts["metrics"])
    assert by_name["network"] == pytest.approx(metrics["pr_auc"], abs=0.02)
    said = pushed(pushed_home, "fraud").facts["comparison"]
    assert all(f"{name} {metric:.4f}" in said for name, metric in by_name.items())


def test_a_pushed_model_carries_what_it_calls_normal_and_its_edge_twin(pushed_home):
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


def test_a_second_run_of_the_same_input_is_cached_whole(copied):
    home = pushed(copied, "image")
    again = showcase("run", "image", "--home", copied, "--json", "--data", home.facts["source"], *SMALL["image"])
    assert again.returncode == 0, again.stderr
    run = json.loads(again.stdout)
    assert run["state"] == "pushed" and run["facts"]["same_as"] == home.id
    states = store.stage_states(MetadataAddress.of(copied), run["id"])
    assert set(states.values()) == {"cached"} and len(states) == 15


def test_a_cached_run_does_not_import_tensorflow(copied):
    source = pushed(copied, "image").facts["source"]
    words = ["showcase", "run", "image", "--home", str(copied), "--data", source, *SMALL["image"]]
    probe = (
        f"import sys; sys.argv = {words!r}\nfrom cli.main import main\ntry:\n    main()\nexcept SystemExit as end:\n"
    )
    probe += "    print('left with', end.code, sorted({'tensorflow', 'tfx', 'apache_beam'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "left with 0 []", done.stdout + done.stderr


@pytest.mark.slow
def test_a_worse_candidate_is_refused_and_status_says_why(copied):
    source = pushed(copied, "fraud").facts["source"]
    done = showcase(
        "run", "fraud", "--home", copied, "--data", source, *SMALL["fraud"], "--set", "learning_rate=0.0000001"
    )
    assert done.returncode == 1
    said = showcase("status", "fraud", "--home", copied).stdout
    assert "refused" in said and "pr_auc of the whole eval split is" in said and "below the blessed model's" in said
    assert "versions/1" in said
    assert [p.name for p in (copied / "fraud" / "versions").iterdir()] == ["1"]


@pytest.mark.slow
def test_an_unknown_category_flood_is_refused_by_name_and_nothing_is_served_anew(copied, tmp_path):
    source, flooded = Path(pushed(copied, "fraud").facts["source"]), tmp_path / "flooded"
    shutil.copytree(source, flooded)
    spans = sorted(flooded.glob("span-*"))
    for span in spans[len(spans) // 3 : 2 * len(spans) // 3]:
        path = span / "transactions.parquet"
        table = pq.read_table(path).to_pandas()
        table.loc[table.index % 2 == 0, "category"] = "crypto"
        table.to_parquet(path)
    done = showcase("run", "fraud", "--home", copied, "--data", flooded, *SMALL["fraud"])
    assert done.returncode == 1
    assert "refused" in done.stdout and "feature 'category'" in done.stdout and "crypto" in done.stdout
    assert [p.name for p in (copied / "fraud" / "versions").iterdir()] == ["1"]


def test_wrong_words_get_one_sentence_and_no_traceback(tmp_path, monkeypatch):
    absent = ModuleType("keras.datasets.mnist")  # in place of a download; without load_data, that fails
    monkeypatch.setitem(sys.modules, absent.__name__, absent)
    for words, sentence in (
        (["run", "spam"], "no use case 'spam'"),
        (["run", "fraud", "--set", "speed=1"], "no setting 'speed'"),
        (["run", "fraud", "--set", "epochs=many"], "takes a int"),
        (["run", "fraud", "--data", "nowhere"], "no folder"),
        (["run", "fraud", "--spans", "9"], "FIRST:LAST"),
        (["run", "image", "--data", "mnist"], "mnist"),
    ):
        done = run_in_process(*words, "--home", tmp_path)
        assert done.returncode == 2, (words, done.stdout, done.stderr)
        assert sentence in done.stderr and len(done.stderr.splitlines()) == 1, (words, done.stderr)
    process = showcase("run", "spam", "--home", tmp_path)
    assert process.returncode == 2 and "no use case 'spam'" in process.stderr and "Traceback" not in process.stderr


@pytest.mark.slow
def test_all_that_training_depends_on_is_the_same_again_with_one_seed(tmp_path):
    """Examples, transform graph, embedding and weights are made twice; with ``--fresh`` nothing is taken from the cache."""
    small = as_words({**FEW["fraud"], "epochs": 2, "deterministic": "true"})
    words = ("run", "fraud", "--seed", 1, "--home", tmp_path, "--tracking", "none", "--json", *small)
    found = []
    for more in ([], ["--fresh"]):
        program = "tests.support.part_of_graph"
        done = command_server().run(program, "trainer", *words, *more, cwd=ROOT, timeout=1200)
        assert done.returncode == 0, done.stdout + done.stderr
        run = json.loads(done.stdout)["id"]
        assert set(store.stage_states(MetadataAddress.of(tmp_path), run).values()) == {"done"}
        made = store.outputs(MetadataAddress.of(tmp_path), run)
        found.append(json.loads(Path(made["Trainer"]["model_run"].uri, "training.json").read_text())["weights"])
    assert found[0] == found[1]
