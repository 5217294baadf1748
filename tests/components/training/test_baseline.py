"""The comparison of models: its record, its agreement with the Evaluator, and the sentence that names the winner."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow_model_analysis as tfma
from ml_metadata.metadata_store import ListOptions
from sklearn.metrics import average_precision_score
from support.built_case import BuiltCase, get_built_case
from support.tiny_case.case import CASE as TINY
from tfx.types import standard_artifacts

from components.training import baseline
from components.training.baseline import Baseline, Comparison
from models import catalog
from models.catalog import CASES
from models.evaluation import baselines, slices
from models.evaluation.daily_reviews import ReviewedRows
from pipeline import outcome
from pipeline.metadata import store
from tour.artifacts import model_readers
from tour.evidence import simple_models as evidence
from tour.evidence.context import Context

pytestmark = pytest.mark.system

SPLIT = [{}, {"featureKeys": ["side"]}]
MODELS = {"network", *baselines.BASELINES}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> BuiltCase:
    return get_built_case(TINY, tmp_path_factory)


@pytest.fixture(scope="module")
def recorded(tiny: BuiltCase, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """The component's record of the tiny case, whose classes a line separates. Read-only."""
    tmp_path = tmp_path_factory.mktemp("recorded")
    kinds = {
        "model": standard_artifacts.Model,
        "examples": standard_artifacts.Examples,
        "transform_graph": standard_artifacts.TransformGraph,
        "model_run": standard_artifacts.ModelRun,
    }
    artifacts, comparison = {name: kind() for name, kind in kinds.items()}, Comparison()
    artifacts["model"].uri, artifacts["model_run"].uri, comparison.uri = (
        str(tmp_path / name) for name in ("model", "run", "made")
    )
    artifacts["examples"].uri, artifacts["transform_graph"].uri = str(tiny.examples), str(tiny.graph)
    for name in ("model", "run", "made"):
        (tmp_path / name).mkdir()
    (tmp_path / "model" / "Format-Serving").symlink_to(tiny.export)
    (tmp_path / "run" / "training.json").write_text(json.dumps({"curves": tiny.fitted.curves}))
    properties = {"config": json.dumps({"case": TINY.name, "slices": [{}, {"featureKeys": ["above"]}]})}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(catalog.CASES, TINY.name, TINY)
        Baseline.EXECUTOR_SPEC.executor_class().Do(
            {n: [artifact] for n, artifact in artifacts.items()}, {"comparison": [comparison]}, properties
        )
    return comparison


def read(folder: Path) -> dict:
    return json.loads((folder / "comparison.json").read_text())


def test_run_reports_a_baseline_that_wins(recorded: Comparison) -> None:
    """A line separates the tiny case's classes, and its network was trained for one epoch."""
    record, sentence = read(Path(recorded.uri)), outcome.describe_comparison(Path(recorded.uri, "comparison.json"))
    by_name = {row["model"]: row["metric"] for row in record["rows"]}
    assert set(by_name) == MODELS
    assert by_name["logistic regression"] == max(by_name.values()) > by_name["network"]
    assert sentence.startswith(f"accuracy: logistic regression {by_name['logistic regression']:.4f}, ")
    assert "the network is behind logistic regression by " in sentence


def test_the_record_holds_metric_time_size_and_slices_of_every_model(recorded: Comparison, tiny: BuiltCase) -> None:
    record = read(Path(recorded.uri))
    truth = tiny.rows["above"][:, 0]
    for row in record["rows"]:
        assert row["seconds"] > 0 and row["bytes"] > 0
        assert row["interval"][0] <= row["metric"] <= row["interval"][1]
        parts = {tuple(map(tuple, part["slice"])): part for part in row["slices"]}
        assert set(parts) == {(), (("above", "0"),), (("above", "1"),)}
        assert parts[()]["metric"] == row["metric"] and parts[()]["rows"] == len(truth) == record["evaluated"]
        shares = [parts[("above", str(value)),]["metric"] * np.sum(truth == value) for value in (0, 1)]
        assert sum(shares) / len(truth) == pytest.approx(row["metric"])
    with np.load(Path(recorded.uri, "scores.npz")) as scores:
        assert {name.replace("_", " ").lower() for name in scores} == {name.lower() for name in MODELS} | {"truth"}
        for row in record["rows"]:
            right = np.argmax(scores[row["model"]], axis=1) == scores["truth"][:, 0]
            assert right.mean() == pytest.approx(row["metric"])


def test_saved_models_have_the_recorded_sizes(recorded: Comparison) -> None:
    for row in read(Path(recorded.uri))["rows"]:
        if row["model"] != "network":
            path = Path(recorded.uri, baseline.slug(row["model"]))
            files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
            assert sum(len(file.read_bytes()) for file in files) == row["bytes"] > 100


def test_headline_values_are_properties_of_the_artifact(recorded: Comparison) -> None:
    record = read(Path(recorded.uri))
    assert recorded.get_string_custom_property("best") == "logistic regression"
    for row in record["rows"]:
        assert recorded.get_float_custom_property(baseline.slug(row["model"])) == pytest.approx(row["metric"])
    assert recorded.get_float_custom_property("ahead") == pytest.approx(record["ahead"]["value"]) and (
        recorded.get_float_custom_property("ahead") < 0
    )


def test_reviews_are_compared_with_a_perfect_ranking() -> None:
    truth, zeros = np.array([[0], [1], [0], [1]]), np.zeros(4)
    rows = ReviewedRows.of(truth, np.array(list("abcd")), np.array([1, 1, 1, 3]), zeros)
    reviews = baseline.compare_reviews(rows, {"network": np.array([[0.1], [0.9], [0.8], [0.2]])}, 2)
    assert reviews["capacity"] == 2 and reviews["days"] == 1
    assert reviews["rows"] == [
        {"model": "network", "card_precision": 0.5, "recall": 0.5, "value_recall": 0.25},
        {"model": baseline.PERFECT, "card_precision": 1.0, "recall": 1.0, "value_recall": 1.0},
    ]
    table = model_readers.tabulate_reviews(reviews)
    assert table.rows[0] == ("network", 0.5, 0.5, 0.25) and "2 reviews a day" in table.title


@pytest.mark.parametrize("case", CASES)
def test_only_a_case_with_cards_has_reviews(pushed_home: Path, case: str) -> None:
    context = Context.of(pushed_home, case)
    record = read(context.artifact("comparison"))
    assert ("reviews" in record) == bool(CASES[case].card)
    for row in record.get("reviews", {"rows": []})["rows"]:
        assert 0 <= row["card_precision"] <= record["reviews"]["rows"][-1]["card_precision"] <= 1
        assert 0 <= row["value_recall"] <= 1 and row["recall"] <= record["reviews"]["rows"][-1]["recall"]


def describe(tmp_path: Path, network: float, other: float, low: float, high: float) -> str:
    rows = [{"model": "network", "metric": network}, {"model": "LightGBM", "metric": other}]
    ahead = {"over": "LightGBM", "value": network - other, "interval": [low, high]}
    (tmp_path / "comparison.json").write_text(
        json.dumps({"metric": "pr_auc", "level": 0.95, "rows": rows, "ahead": ahead})
    )
    return outcome.describe_comparison(tmp_path / "comparison.json")


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        (
            (0.7, 0.6, 0.05, 0.15),
            "pr_auc: network 0.7000, LightGBM 0.6000; "
            "the network is ahead of LightGBM by 0.1000 (95% interval 0.0500 to 0.1500)",
        ),
        (
            (0.6, 0.7, -0.15, -0.05),
            "pr_auc: LightGBM 0.7000, network 0.6000; the network is behind LightGBM by 0.1000 (95% interval 0.0500 to 0.1500)",
        ),
        (
            (0.6, 0.61, -0.05, 0.03),
            "pr_auc: LightGBM 0.6100, network 0.6000; "
            "the network is behind LightGBM by 0.0100, within chance (95% interval -0.0300 to 0.0500)",
        ),
        (
            (0.6, 0.6, -0.02, 0.03),
            "pr_auc: network 0.6000, LightGBM 0.6000; "
            "the network is level with LightGBM (95% interval -0.0200 to 0.0300)",
        ),
    ],
)
def test_sentence_names_the_winner_and_its_interval(tmp_path: Path, numbers: tuple, sentence: str) -> None:
    assert describe(tmp_path, *numbers) == sentence


def test_a_slice_without_positives_has_no_average_precision() -> None:
    network, generator = CASES["fraud"].load("model"), np.random.default_rng(1)
    truth = np.zeros((100, 1))
    truth[:10] = 1
    side = np.array(["left"] * 50 + ["right"] * 50, object)
    scores = {name: generator.random((100, 1)) for name in ("network", "other")}
    record = baseline.compare_models(network, scores, {name: {} for name in scores}, truth, SPLIT, {"side": side})
    for row in record["rows"]:
        whole, left, right = (part["metric"] for part in row["slices"])
        assert whole == pytest.approx(average_precision_score(truth[:, 0], scores[row["model"]][:, 0]))
        assert left == pytest.approx(average_precision_score(truth[:50, 0], scores[row["model"]][:50, 0]))
        assert right is None


def evaluated(context: Context) -> dict[slices.Key, dict[str, float]]:
    """The Evaluator's values by slice."""
    by_slice = {}
    for key, by_output in tfma.load_eval_result(str(context.artifact("evaluation"))).slicing_metrics:
        (by_class,) = by_output.values()
        (values,) = by_class.values()
        key = tuple(sorted((name, str(value)) for name, value in key))
        by_slice[key] = {name: value["doubleValue"] for name, value in values.items() if "doubleValue" in value}
    return by_slice


def slices_of_network(context: Context) -> dict[slices.Key, dict]:
    (network,) = (row for row in read(context.artifact("comparison"))["rows"] if row["model"] == "network")
    return {tuple(map(tuple, part["slice"])): part for part in network["slices"]}


@pytest.mark.parametrize("case", CASES)
def test_slices_are_the_evaluators_with_its_rows(pushed_home: Path, case: str) -> None:
    context = Context.of(pushed_home, case)
    counts = {key: values["example_count"] for key, values in evaluated(context).items()}
    assert {key: part["rows"] for key, part in slices_of_network(context).items()} == counts and len(counts) > 3


def test_accuracy_of_every_slice_is_the_evaluators(pushed_home: Path) -> None:
    context = Context.of(pushed_home, "image")
    for key, values in evaluated(context).items():
        assert slices_of_network(context)[key]["metric"] == pytest.approx(values["accuracy"], abs=1e-6), key


def test_pr_auc_of_every_slice_is_the_evaluators(pushed_home: Path) -> None:
    """The Evaluator interpolates between 1,000 thresholds; so does Keras, on the recorded rows and scores.

    The comparison's average precision uses every threshold: the two differ where positives are few.
    """
    context = Context.of(pushed_home, "fraud")
    network = context.case.load("model")
    features, columns = slices.read_split(context.shards("eval"), context.transform, (network.LABEL,), ("channel",))
    with np.load(context.artifact("comparison") / "scores.npz") as scores:
        truth, answers = scores["truth"], scores["network"]
    assert np.array_equal(truth, features[network.LABEL])
    parts = slices.find_slices([{}, {"featureKeys": ["channel"]}], columns, len(truth))
    for key, values in evaluated(context).items():
        metric = keras.metrics.AUC(curve="PR", num_thresholds=1000)
        metric.update_state(truth[parts[key]], answers[parts[key]])
        assert float(metric.result()) == pytest.approx(values["pr_auc"], abs=2e-3), key
        few = truth[parts[key]].sum() < 20
        assert slices_of_network(context)[key]["metric"] == pytest.approx(values["pr_auc"], abs=0.1 if few else 0.01), (
            key
        )


def test_store_query_finds_the_runs_that_a_baseline_won(pushed_home: Path) -> None:
    context = Context.of(pushed_home, "fraud")
    row = max(read(context.artifact("comparison"))["rows"], key=lambda row: row["metric"])
    with store.open_for_writing(context.metadata) as opened:

        def won(name: str, least: float) -> list[str]:
            query = (
                f"type = 'Comparison' AND custom_properties.best.string_value = '{name}' "
                f"AND custom_properties.{baseline.slug(name)}.double_value >= {least}"
            )
            return [artifact.uri for artifact in opened.get_artifacts(list_options=ListOptions(filter_query=query))]

        # The store has a precision of six digits.
        assert str(context.artifact("comparison")) in won(row["model"], row["metric"] - 1e-5)
        assert str(context.artifact("comparison")) not in won(row["model"], row["metric"] + 1e-5)


@pytest.mark.parametrize("case", CASES)
def test_the_saved_forest_answers_now_as_it_did_in_the_run(pushed_home: Path, case: str) -> None:
    tables = {result.title: result for result in evidence.forest(Context.of(pushed_home, case))}
    (_, recorded), (_, now) = tables["Metric of the saved forest"].rows
    assert now == pytest.approx(recorded, abs=1e-6)
    six = {row[0]: row[2] for row in tables["The six parameters"].rows}
    counted = dict(tables["Size of the forest, read from its files"].rows)
    assert len(six) == 6 and six["trees"] == counted["trees"] == baselines.TREES
    assert counted["depth of the deepest leaf"] <= 16 < counted["nodes of the largest tree"]
    assert str(counted["nodes of the largest tree"]) in six["maximum nodes"]


def test_columns_of_the_forest_have_names_that_the_case_gives(pushed_home: Path) -> None:
    context = Context.of(pushed_home, "fraud")
    named = context.case.load("features").COLUMNS
    assert {name: len(names) for name, names in named.items()} == {
        name: context.transform.features[name].shape[-1] for name in context.case.load("model").INPUTS if name in named
    }
    assert (
        evidence.column_label(context, "numeric.0") == "amount"
        and evidence.column_label(context, "past.7") == "past 1: age"
    )
    assert evidence.column_label(Context.of(pushed_home, "image"), "pixels.9") == "pixels.9"


@pytest.mark.parametrize("case", CASES)
def test_evidence_compares_both_cases_and_refits_one_model(pushed_home: Path, case: str) -> None:
    results = evidence.deep_or_classic(Context.of(pushed_home, case))
    for name in CASES:
        (table,) = (part for part in results if part.title.startswith(f"{name}: ") and hasattr(part, "rows"))
        assert {row[0] for row in table.rows} == MODELS
        (line,) = (result.value for result in results if result.title == f"{name}: verdict")
        assert line.split(": ")[1].startswith(table.rows[0][0])
    fitted = {row[0]: row for row in results[-1].rows}
    now, before = fitted["logistic regression, fitted now"], fitted["logistic regression"]
    assert 0 < now[1] <= before[1] and now[3] == pytest.approx(before[3], abs=0.15)
