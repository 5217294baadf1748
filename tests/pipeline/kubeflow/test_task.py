"""What a task hands to the next: requests and plans as text, and a run that each task finds as the last one left it."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.small_runs import SMALL

import pipeline
from models.catalog import CASES
from pipeline.kubeflow import task
from pipeline.kubeflow.task import Task
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress
from pipeline.plan import Request, make_plan
from pipeline.refresh import Base

FRAUD, IMAGE = CASES["fraud"], CASES["image"]


def request_of(case: str) -> Request:
    return Request(CASES[case], changes=SMALL if case == "fraud" else {"epochs": "1"})


@pytest.mark.parametrize("case", CASES)
def test_requests_and_plans_come_back_as_they_were(case: str, tmp_path: Path) -> None:
    request = replace(request_of(case), first=0, last=-1, schema=CASES[case].schema_path, tune=bool(CASES[case].space))
    assert task.asked(task.told(request)) == request
    plan = make_plan(request_of(case), local_runtime(tmp_path))
    assert task.read(task.written(plan)) == plan
    based = replace(plan, base=Base("run", 0, 9, "source", "weights", {"width": 3}, {"embedding": "there"}))
    again = task.read(task.written(based))
    assert again == based and again.fingerprint() == based.fingerprint() != plan.fingerprint()


@pytest.mark.parametrize("text", ["", "{}", '{"case": "fraud"}', '{"case": "fraud", "schema": "", "dta": 1}'])
def test_a_request_of_another_make_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="showcase compile"):
        task.asked(text)


@pytest.mark.system
def test_begin_writes_plan_run_and_where_the_metadata_are(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    one = Task("run-1", str(tmp_path))
    one.begin(task.told(request_of("fraud")))
    (run,) = store.runs(MetadataAddress.of(tmp_path))
    plan = task.read((tmp_path / "kubeflow" / "run-1.json").read_text())
    assert (run.id, run.state, run.case, run.fingerprint) == ("run-1", "running", "fraud", plan.fingerprint())
    assert json.loads(run.facts["settings"])["data"]["rows"] == 3000 and "pid" not in run.facts
    assert "run-1" in capsys.readouterr().out
    assert MetadataAddress.of(tmp_path).server == ""


@pytest.mark.system
def test_begin_again_is_the_same_run_and_another_name_is_another(tmp_path: Path) -> None:
    told = task.told(request_of("fraud"))
    for name in ("run-1", "run-1", "run-2"):
        Task(name, str(tmp_path)).begin(told)
    assert [run.id for run in store.runs(MetadataAddress.of(tmp_path))] == ["run-1", "run-2"]


def test_data_that_are_not_there_stop_the_first_task(tmp_path: Path) -> None:
    asked = task.told(replace(request_of("fraud"), data=str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match="There is no folder"):
        Task("run-1", str(tmp_path / "home")).begin(asked)
    assert store.runs(MetadataAddress.of(tmp_path / "home")) == []


def test_an_outline_needs_no_data_and_knows_the_settings() -> None:
    found = task.outline(Request(FRAUD, changes={"epochs": "3"}, tune=True))
    assert found.settings["training"]["epochs"] == 3 and found.space
    with pytest.raises(ValueError, match="no setting 'epoch'"):
        task.outline(Request(FRAUD, changes={"epoch": "3"}))


def verdict(monkeypatch: pytest.MonkeyPatch, state: str, reason: str) -> list[dict]:
    """Has the verdict be that, TFMA unasked; returns what it was asked for."""
    asked: list[dict] = []

    def of(runtime, run_id, progress, plan):
        asked.append({name: one.state for name, one in progress.items()})
        return state, reason, {"headline": "pr_auc 0.5"}

    fake = SimpleNamespace(of=of)
    monkeypatch.setitem(sys.modules, "pipeline.outcome", fake)
    monkeypatch.setattr(pipeline, "verdict", fake, raising=False)
    monkeypatch.setattr(store, "stage_states", lambda *_: {"Trainer": "done", "Pusher": "done"})
    return asked


@pytest.mark.system
def test_the_end_of_a_pushed_run_is_recorded_and_the_server_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Task("run-1", str(tmp_path))
    one.begin(task.told(request_of("fraud")))
    (tmp_path / "fraud" / "versions" / "1").mkdir(parents=True)
    assert (asked := verdict(monkeypatch, "pushed", "version 1")) == []
    one.end()
    (run,) = store.runs(MetadataAddress.of(tmp_path))
    assert (run.state, run.reason, run.facts["headline"]) == ("pushed", "version 1", "pr_auc 0.5") and run.facts[
        "ended"
    ]
    assert asked == [{"Trainer": "done", "Pusher": "done"}]
    assert f'base_path: "{tmp_path}/fraud/versions"' in (tmp_path / "models.config").read_text()
    one.end()  # again, as a retried task: nothing is judged anew
    assert len(asked) == 1


@pytest.mark.system
def test_the_end_of_a_refused_run_fails_its_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    one = Task("run-1", str(tmp_path))
    one.begin(task.told(request_of("fraud")))
    verdict(monkeypatch, "refused", "Evaluator: pr_auc is 0.1")
    with pytest.raises(SystemExit) as ended:
        one.end()
    assert ended.value.code == 1 and "refused Evaluator: pr_auc is 0.1" in capsys.readouterr().out
    assert [run.state for run in store.runs(MetadataAddress.of(tmp_path))] == ["refused"]
    assert not (tmp_path / "models.config").exists()
