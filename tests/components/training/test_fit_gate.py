"""The gate for overfitting: both sides, by hand and in a run."""

import json
from pathlib import Path

import pytest
from support.command import showcase
from tfx.types import standard_artifacts

from components.training.fit_gate import FitGate, overfitted
from models.catalog import CASES
from models.errors import Refused
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


def gate(folder: Path, told: dict, limit: float) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "training.json").write_text(json.dumps({"fit": told}))
    run = standard_artifacts.ModelRun()
    run.uri = str(folder)
    config = json.dumps({"case": "any", "settings": {"max_gap": limit}})
    FitGate.EXECUTOR_SPEC.executor_class().Do({"model_run": [run]}, {}, {"config": config})


@pytest.mark.parametrize(
    ("train", "valid", "limit"), [(0.9, 0.85, 0.1), (0.9, 0.875, 0.03125), (0.6, 0.9, 0.1), (1.0, 0.0, 0.0)]
)
def test_within_the_limit_or_without_one_a_run_passes(tmp_path: Path, train: float, valid: float, limit: float) -> None:
    assert overfitted(fit(train, valid), limit) == ""
    gate(tmp_path, fit(train, valid), limit)


def test_beyond_the_limit_it_is_refused_in_one_sentence_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        gate(tmp_path, fit(0.99, 0.7), 0.2)
    said = str(caught.value)
    assert caught.value.gate == "FitGate" and "\n" not in said
    for part in (
        "skill is 0.9900 on 300 examples of train",
        "0.7000 on 40 of valid",
        "a gap of 0.2900",
        "at most 0.2",
        "max_gap",
        "dropout",
        "more data",
    ):
        assert part in said


@pytest.mark.parametrize("pair", [(float("nan"), 0.7), (0.7, float("nan"))])
def test_what_is_not_a_number_is_refused(pair: tuple[float, float]) -> None:
    assert "nan" in overfitted(fit(*pair), 0.2)


def test_a_training_that_measured_nothing_does_not_pass(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        gate(tmp_path, {}, 0.2)


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_blessed_or_pushed_before_the_gate(name: str) -> None:
    case = CASES[name]
    _, edges = overview.graph_of(Plan(case, "/raw", 0, 1, case.configured({}), "", "/versions", ""))
    assert {("Trainer", "FitGate"), ("FitGate", "Evaluator"), ("Evaluator", "Pusher")} <= set(edges)


def training_record(home: Path, case: str) -> dict:
    run = [one for one in store.runs(MetadataAddress.of(home), case) if one.state == "pushed"][0]
    outputs = store.outputs(MetadataAddress.of(home), run.id)
    return json.loads(Path(outputs["Trainer"]["model_run"].uri, "training.json").read_text())


@pytest.mark.parametrize("name", CASES)
def test_the_gate_reads_the_metrics_of_the_trained_model(pushed_home: Path, name: str) -> None:
    told = training_record(pushed_home, name)
    assert told["fit"]["valid"][told["fit"]["metric"]] == pytest.approx(told["valid"][told["fit"]["metric"]], abs=1e-6)
    assert told["fit"]["train"]["rows"] == min(told["rows"], 20_000)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_default_runs_pass_with_room(default_home: Path, name: str) -> None:
    limit = CASES[name].settings["gates"]["max_gap"]
    assert 0 < limit < 0.5 and not overfitted(training_record(default_home, name)["fit"], 0.75 * limit)


# Some thirty pictures to learn from, no method against overfitting, and enough epochs to know them by heart.
OVERFIT = {
    "valid_share": "0.3",
    "eval_share": "0.68",
    "dropout": "0",
    "weight_decay": "0",
    "augment": "false",
    "patience": "0",
    "epochs": "60",
    "batch_size": "16",
}


@pytest.mark.slow
def test_an_overfitted_run_is_refused_and_nothing_is_pushed(tmp_path: Path) -> None:
    known = {setting for group in CASES["image"].settings.values() for setting in group}
    words = [word for name, value in OVERFIT.items() if name in known for word in ("--set", f"{name}={value}")]
    done = showcase("run", "image", "--home", tmp_path, "--json", *words)
    assert done.returncode == 1, done.stdout + done.stderr
    run = json.loads(done.stdout)
    assert run["state"] == "refused" and run["reason"].startswith("FitGate: accuracy is ")
    assert "max_gap" in run["reason"] and "get more data" in run["reason"]
    states = store.stage_states(MetadataAddress.of(tmp_path), run["id"])
    assert states["FitGate"] == "failed" and not {"Evaluator", "Pusher"} & set(states)
    assert not list(tmp_path.glob("image/versions/*"))
