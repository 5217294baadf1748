"""The gate for overfitting: passing and refusing, with given values and in a run."""

import json
from pathlib import Path

import pytest
from support.command import showcase
from tfx.types import standard_artifacts

from components.training.fit_gate import FitGate, find_overfitting
from models.catalog import CASES
from models.errors import GateError
from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress
from pipeline.plan import Plan
from tour.evidence import overview


def fit(train: float, valid: float) -> dict:
    return {
        "metric": "skill",
        "train": {"rows": 300, "loss": 0.1, "skill": train},
        "valid": {"rows": 40, "loss": 0.9, "skill": valid},
    }


def run_gate(folder: Path, fit: dict, limit: float) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "training.json").write_text(json.dumps({"fit": fit}))
    run = standard_artifacts.ModelRun()
    run.uri = str(folder)
    config = json.dumps({"case": "any", "settings": {"max_gap": limit}})
    FitGate.EXECUTOR_SPEC.executor_class().Do({"model_run": [run]}, {}, {"config": config})


@pytest.mark.parametrize(
    ("train", "valid", "limit"), [(0.9, 0.85, 0.1), (0.9, 0.875, 0.03125), (0.6, 0.9, 0.1), (1.0, 0.0, 0.0)]
)
def test_gap_within_the_limit_or_without_limit_passes(tmp_path: Path, train: float, valid: float, limit: float) -> None:
    assert find_overfitting(fit(train, valid), limit) == ""
    run_gate(tmp_path, fit(train, valid), limit)


def test_gap_beyond_the_limit_is_refused_with_remedies(tmp_path: Path) -> None:
    with pytest.raises(GateError) as caught:
        run_gate(tmp_path, fit(0.99, 0.7), 0.2)
    reason = str(caught.value)
    assert caught.value.gate == "FitGate" and "\n" not in reason
    for part in (
        "skill is 0.9900 on 300 examples of train",
        "0.7000 on 40 of valid",
        "a gap of 0.2900",
        "at most 0.2",
        "max_gap",
        "dropout",
        "more data",
    ):
        assert part in reason


@pytest.mark.parametrize("pair", [(float("nan"), 0.7), (0.7, float("nan"))])
def test_nan_is_refused(pair: tuple[float, float]) -> None:
    assert "nan" in find_overfitting(fit(*pair), 0.2)


def test_record_without_measurements_does_not_pass(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        run_gate(tmp_path, {}, 0.2)


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_blessed_or_pushed_before_the_gate(name: str) -> None:
    case = CASES[name]
    _, edges = overview.build_graph(Plan(case, "/raw", 0, 1, case.configure({}), "", "/versions", ""))
    assert {("Trainer", "FitGate"), ("FitGate", "Evaluator"), ("Evaluator", "Pusher")} <= set(edges)


def training_record(home: Path, case: str) -> dict:
    run = [run for run in store.runs(MetadataAddress.of(home), case) if run.state == "pushed"][0]
    outputs = store.outputs(MetadataAddress.of(home), run.id)
    return json.loads(Path(outputs["Trainer"]["model_run"].uri, "training.json").read_text())


@pytest.mark.parametrize("name", CASES)
def test_the_gate_reads_the_metrics_of_the_trained_model(pushed_home: Path, name: str) -> None:
    record = training_record(pushed_home, name)
    assert record["fit"]["valid"][record["fit"]["metric"]] == pytest.approx(
        record["valid"][record["fit"]["metric"]], abs=1e-6
    )
    assert record["fit"]["train"]["rows"] == min(record["rows"], 20_000)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_default_runs_pass_with_a_margin(default_home: Path, name: str) -> None:
    limit = CASES[name].settings["gates"]["max_gap"]
    assert 0 < limit < 0.5 and not find_overfitting(training_record(default_home, name)["fit"], 0.75 * limit)


# About thirty training images, no regularisation, and enough epochs to memorise them.
OVERFIT = {
    "valid_share": "0.3",
    "eval_share": "0.66",
    "dropout": "0",
    "weight_decay": "0",
    "augment": "false",
    "patience": "0",
    "epochs": "60",
    "batch_size": "16",
}


@pytest.mark.slow
def test_an_overfitted_run_is_refused_and_nothing_is_pushed(tmp_path: Path) -> None:
    names = {setting for group in CASES["image"].settings.values() for setting in group}
    words = [word for name, value in OVERFIT.items() if name in names for word in ("--set", f"{name}={value}")]
    process = showcase("run", "image", "--home", tmp_path, "--json", *words)
    assert process.returncode == 1, process.stdout + process.stderr
    run = json.loads(process.stdout)
    assert run["state"] == "refused" and run["reason"].startswith("FitGate: accuracy is ")
    assert "max_gap" in run["reason"] and "get more data" in run["reason"]
    states = store.stage_states(MetadataAddress.of(tmp_path), run["id"])
    assert states["FitGate"] == "failed" and not {"Evaluator", "Pusher"} & set(states)
    assert not list(tmp_path.glob("image/versions/*"))
