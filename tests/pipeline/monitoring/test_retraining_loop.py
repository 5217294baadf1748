"""The monitor's logic without TFX: stored and pending decisions, and the request of a retraining."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd
from support.in_process import run_in_process

from models.catalog import CASES
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.monitoring import collected_spans, decisions, retraining_loop
from pipeline.run import Run
from pipeline.runtime import Runtime

FRAUD = CASES["fraud"]


@dataclass
class StoredHistory:
    """A home with decisions and runs in its store."""

    runtime: Runtime
    folder: Path

    def decide(self, window: int, action: str, case: str = "fraud", live: bool = True) -> None:
        folder = self.folder / f"{case}-{window}-{live}"
        folder.mkdir()
        record = {"id": f"{case}-{window}", "action": action, "window": window, "reasons": ["because"]}
        (folder / decisions.FILE).write_text(json.dumps(record))
        with store.open_for_writing(self.runtime.metadata) as connection:
            kind = connection.put_artifact_type(mlmd.ArtifactType(name=decisions.TYPE))
            artifact = mlmd.Artifact(type_id=kind, uri=str(folder))
            artifact.state = mlmd.Artifact.LIVE if live else mlmd.Artifact.PENDING
            artifact.custom_properties["case"].string_value = case
            artifact.custom_properties["window"].int_value = window
            connection.put_artifacts([artifact])

    def run(self, state: str, decision: str, number: int = 1) -> None:
        facts = {"decision": decision, "pid": "0"}  # no process has this id
        store.save(self.runtime.metadata, Run(f"fraud-{number}", "fraud", state, "", "f", facts))


@pytest.fixture
def history(tmp_path: Path) -> StoredHistory:
    return StoredHistory(local_runtime(tmp_path), tmp_path)


def test_decisions_are_listed_by_case_without_incomplete_ones(history: StoredHistory) -> None:
    assert decisions.list_decisions(history.runtime, "fraud") == []
    history.decide(12, "none")
    history.decide(9, "watch")
    history.decide(13, "retrain", live=False)  # its stage was killed
    history.decide(40, "retrain", case="image")
    assert [decision.id for decision in decisions.list_decisions(history.runtime, "fraud")] == ["fraud-9", "fraud-12"]
    assert (
        decisions.find_pending_decision(history.runtime, "fraud") is None
        and decisions.find_pending_decision(history.runtime, "image").id == "image-40"
    )


@pytest.mark.parametrize(
    ("state", "pending"),
    [(None, True), ("running", True), ("interrupted", True), ("pushed", False), ("refused", False), ("failed", False)],
)
def test_decision_is_pending_until_its_run_has_ended(history: StoredHistory, state: str | None, pending: bool) -> None:
    history.decide(9, "refresh")
    history.run("pushed", "", 1)
    history.run("pushed", "fraud-8", 2)
    if state:
        history.run(state, "fraud-9", 3)
    assert (decisions.find_pending_decision(history.runtime, "fraud") is not None) == pending
    description = decisions.describe_last_decision(history.runtime, "fraud")
    assert description.startswith("refresh after 1970-01-10: because") and (
        state is None or description.endswith(f"fraud-3: {_shown_state(state)}")
    )


def _shown_state(state: str) -> str:
    return "stopped" if state == "running" else state  # its process is gone


def test_newer_decision_replaces_a_pending_one(history: StoredHistory) -> None:
    history.decide(9, "retrain")
    history.decide(10, "none")
    assert decisions.find_pending_decision(history.runtime, "fraud") is None


def make_base_run(**facts: object) -> Run:
    all_facts = {"settings": json.dumps(FRAUD.configure({})), "spans": "10:89", "version": "1"} | facts
    return Run("fraud-1", "fraud", "pushed", "", "f", all_facts)


def test_retraining_uses_the_settings_of_the_served_run() -> None:
    settings = FRAUD.configure({"eval_days": "5", "epochs": "3", "min_pr_auc": "0.2"})
    settings["data"] |= {"first_day": 3, "last_day": 92}
    run = make_base_run(settings=json.dumps(settings))
    all_changes = retraining_loop.find_changed_settings(FRAUD, run, tuple(FRAUD.settings))
    assert all_changes == {"eval_days": "5", "epochs": "3", "min_pr_auc": "0.2"}
    assert FRAUD.configure(all_changes)["training"] == settings["training"]
    # A LoRA refresh has its own training settings.
    assert retraining_loop.find_changed_settings(FRAUD, run, ("data", "gates")) == {
        "eval_days": "5",
        "min_pr_auc": "0.2",
    }
    assert retraining_loop.find_changed_settings(FRAUD, make_base_run(), tuple(FRAUD.settings)) == {}


def test_training_spans_are_the_newest_of_the_chosen_length(tmp_path: Path) -> None:
    for number in range(10, 120):
        (tmp_path / f"span-{number:03d}").mkdir()
    assert retraining_loop.choose_spans(FRAUD, 0, tmp_path, make_base_run()) == (40, 119)
    assert retraining_loop.choose_spans(FRAUD, 20, tmp_path, make_base_run()) == (100, 119)
    assert retraining_loop.choose_spans(FRAUD, 500, tmp_path, make_base_run()) == (10, 119)
    assert retraining_loop.choose_spans(CASES["image"], 0, tmp_path, make_base_run()) == (10, 119)


def test_unseen_spans_follow_from_the_policys_settings() -> None:
    settings = FRAUD.configure({})
    settings["data"] |= {"first_day": 0, "last_day": 89}
    run = make_base_run(settings=json.dumps(settings))
    # Label delay twice, eval days and valid days.
    assert retraining_loop.count_unseen_spans(FRAUD, FRAUD.policy, run) == 7 + 4 + 7 + 3
    assert retraining_loop.count_unseen_spans(CASES["image"], CASES["image"].policy, run) == 0


def test_existing_collection_is_reused(history: StoredHistory) -> None:
    history.decide(9, "retrain")
    (decided,) = decisions.list_decisions(history.runtime, "fraud")
    out = history.folder / "fraud" / "collected" / "fraud-9"
    out.mkdir(parents=True)
    (out / collected_spans.COLLECTED).write_text("{}")
    assert collected_spans.collect(FRAUD, history.runtime, decided, make_base_run()) == out


def test_monitor_errors_are_one_sentence(tmp_path: Path) -> None:
    for arguments, message in (
        (["fraud"], "showcase run fraud"),
        (["spam"], "no use case"),
        (["fraud", "--policy", "x=1"], "no 'x'"),
    ):
        result = run_in_process("monitor", *arguments, "--home", tmp_path)
        assert result.returncode == 2 and message in result.stderr and len(result.stderr.splitlines()) == 1, (
            result.stderr
        )


def test_fraud_policy_trains_only_on_days_since_the_drift() -> None:
    settings = FRAUD.configure(FRAUD.policy.settings)["data"]
    drift_day, policy = 93, FRAUD.policy
    last = drift_day + policy.learn + FRAUD.load("data").unseen(settings | {"first_day": 0, "last_day": 89}) - 1
    window = settings | {"first_day": last + 1 - policy.spans, "last_day": last}
    assert FRAUD.load("data").splits(window)["train"] == range(drift_day, drift_day + policy.learn)
