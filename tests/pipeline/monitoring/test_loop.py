"""What the monitor knows before TFX is imported: what was decided and is due, and what a retraining is asked for."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd
from support.in_process import run_in_process

from models.catalog import CASES
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.monitoring import collected_spans, decisions, loop
from pipeline.runtime import Runtime

FRAUD = CASES["fraud"]


@dataclass
class Past:
    """A home with decisions and runs in its store."""

    runtime: Runtime
    folder: Path

    def decide(self, window: int, action: str, case: str = "fraud", live: bool = True) -> None:
        place = self.folder / f"{case}-{window}-{live}"
        place.mkdir()
        record = {"id": f"{case}-{window}", "action": action, "window": window, "reasons": ["because"]}
        (place / decisions.FILE).write_text(json.dumps(record))
        with store.opened(self.runtime.metadata) as held:
            kind = held.put_artifact_type(mlmd.ArtifactType(name=decisions.TYPE))
            artifact = mlmd.Artifact(type_id=kind, uri=str(place))
            artifact.state = mlmd.Artifact.LIVE if live else mlmd.Artifact.PENDING
            artifact.custom_properties["case"].string_value = case
            artifact.custom_properties["window"].int_value = window
            held.put_artifacts([artifact])

    def run(self, state: str, decision: str, number: int = 1) -> None:
        facts = {"decision": decision, "pid": "0"}  # which no process has
        store.save(self.runtime.metadata, store.Run(f"fraud-{number}", "fraud", state, "", "f", facts))


@pytest.fixture
def past(tmp_path: Path) -> Past:
    return Past(local_runtime(tmp_path), tmp_path)


def test_decisions_are_those_of_the_case_that_were_written_whole(past: Past) -> None:
    assert decisions.all_of(past.runtime, "fraud") == []
    past.decide(12, "none")
    past.decide(9, "watch")
    past.decide(13, "retrain", live=False)  # its stage was killed
    past.decide(40, "retrain", case="image")
    assert [one.id for one in decisions.all_of(past.runtime, "fraud")] == ["fraud-9", "fraud-12"]
    assert decisions.undone(past.runtime, "fraud") is None and decisions.undone(past.runtime, "image").id == "image-40"


@pytest.mark.parametrize(
    ("state", "due"),
    [(None, True), ("running", True), ("interrupted", True), ("pushed", False), ("refused", False), ("failed", False)],
)
def test_a_decision_is_due_until_a_run_has_ended_for_it(past: Past, state: str | None, due: bool) -> None:
    past.decide(9, "refresh")
    past.run("pushed", "", 1)
    past.run("pushed", "fraud-8", 2)
    if state:
        past.run(state, "fraud-9", 3)
    assert (decisions.undone(past.runtime, "fraud") is not None) == due
    said = decisions.line(past.runtime, "fraud")
    assert said.startswith("refresh after window 9: because") and (
        state is None or said.endswith(f"fraud-3: {_seen(state)}")
    )


def _seen(state: str) -> str:
    return "stopped" if state == "running" else state  # its process is gone


def test_a_newer_decision_takes_the_place_of_an_older_one(past: Past) -> None:
    past.decide(9, "retrain")
    past.decide(10, "none")
    assert decisions.undone(past.runtime, "fraud") is None


def base(**facts: object) -> store.Run:
    told = {"settings": json.dumps(FRAUD.configured({})), "spans": "10:89", "version": "1"} | facts
    return store.Run("fraud-1", "fraud", "pushed", "", "f", told)


def test_a_retraining_has_the_settings_of_the_served_run() -> None:
    settings = FRAUD.configured({"eval_days": "5", "epochs": "3", "min_pr_auc": "0.2"})
    settings["data"] |= {"first_day": 3, "last_day": 92}
    run = base(settings=json.dumps(settings))
    everything = loop.changed(FRAUD, run, tuple(FRAUD.settings))
    assert everything == {"eval_days": "5", "epochs": "3", "min_pr_auc": "0.2"}
    assert FRAUD.configured(everything)["training"] == settings["training"]
    # Adapters are trained by settings of their own.
    assert loop.changed(FRAUD, run, ("data", "gates")) == {"eval_days": "5", "min_pr_auc": "0.2"}
    assert loop.changed(FRAUD, base(), tuple(FRAUD.settings)) == {}


def test_spans_to_train_on(tmp_path: Path) -> None:
    for number in range(10, 120):
        (tmp_path / f"span-{number:03d}").mkdir()
    assert loop.spans_of(FRAUD, 0, tmp_path, base()) == (40, 119)
    assert loop.spans_of(FRAUD, 20, tmp_path, base()) == (100, 119)
    assert loop.spans_of(FRAUD, 500, tmp_path, base()) == (10, 119)
    assert loop.spans_of(CASES["image"], 0, tmp_path, base()) == (10, 119)


def test_what_training_leaves_out_follows_from_the_policys_settings() -> None:
    settings = FRAUD.configured({})
    settings["data"] |= {"first_day": 0, "last_day": 89}
    run = base(settings=json.dumps(settings))
    # The delay of labels twice, eval and valid.
    assert loop.unseen(FRAUD, FRAUD.policy, run) == 7 + 4 + 7 + 3
    assert loop.unseen(CASES["image"], CASES["image"].policy, run) == 0


def test_a_collection_that_is_there_is_not_made_again(past: Past) -> None:
    past.decide(9, "retrain")
    (decided,) = decisions.all_of(past.runtime, "fraud")
    out = past.folder / "fraud" / "collected" / "fraud-9"
    out.mkdir(parents=True)
    (out / collected_spans.COLLECTED).write_text("{}")
    assert collected_spans.collect(FRAUD, past.runtime, decided, base()) == out


def test_a_home_without_a_model_is_one_sentence(tmp_path: Path) -> None:
    for words, says in (
        (["fraud"], "showcase run fraud"),
        (["spam"], "no use case"),
        (["fraud", "--policy", "x=1"], "no 'x'"),
    ):
        done = run_in_process("monitor", *words, "--home", tmp_path)
        assert done.returncode == 2 and says in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_the_fraud_policy_trains_on_the_days_since_the_drift_alone() -> None:
    settings = FRAUD.configured(FRAUD.policy.settings)["data"]
    since, policy = 93, FRAUD.policy
    last = since + policy.learn + FRAUD.load("data").unseen(settings | {"first_day": 0, "last_day": 89}) - 1
    window = settings | {"first_day": last + 1 - policy.spans, "last_day": last}
    assert FRAUD.load("data").splits(window)["train"] == range(since, since + policy.learn)
