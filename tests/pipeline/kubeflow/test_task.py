"""State passed between tasks: requests and plans as text, and the run's record in the metadata store."""

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
from pipeline.kubeflow.task import KubeflowTask
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress
from pipeline.plan import RunRequest, make_plan
from pipeline.refresh import RefreshBase

FRAUD, IMAGE = CASES["fraud"], CASES["image"]


def make_request(case: str) -> RunRequest:
    return RunRequest(CASES[case], changes=SMALL if case == "fraud" else {"epochs": "1"})


@pytest.mark.parametrize("case", CASES)
def test_requests_and_plans_survive_a_round_trip(case: str, tmp_path: Path) -> None:
    request = replace(
        make_request(case), first=0, last=-1, schema=CASES[case].schema_path, tune=bool(CASES[case].space)
    )
    assert task.load_request(task.dump_request(request)) == request
    plan = make_plan(make_request(case), local_runtime(tmp_path))
    assert task.load_plan(task.dump_plan(plan)) == plan
    plan_with_base = replace(
        plan, base=RefreshBase("run", 0, 9, "source", "weights", {"width": 3}, {"embedding": "there"})
    )
    parsed = task.load_plan(task.dump_plan(plan_with_base))
    assert parsed == plan_with_base and parsed.fingerprint() == plan_with_base.fingerprint() != plan.fingerprint()


@pytest.mark.parametrize("text", ["", "{}", '{"case": "fraud"}', '{"case": "fraud", "schema": "", "dta": 1}'])
def test_invalid_request_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="showcase compile"):
        task.load_request(text)


@pytest.mark.system
def test_begin_writes_plan_and_run_record(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    kubeflow_task = KubeflowTask("run-1", str(tmp_path))
    kubeflow_task.begin(task.dump_request(make_request("fraud")))
    (run,) = store.runs(MetadataAddress.of(tmp_path))
    plan = task.load_plan((tmp_path / "kubeflow" / "run-1.json").read_text())
    assert (run.id, run.state, run.case, run.fingerprint) == ("run-1", "running", "fraud", plan.fingerprint())
    assert json.loads(run.facts["settings"])["data"]["rows"] == 3000 and "pid" not in run.facts
    assert "run-1" in capsys.readouterr().out
    assert MetadataAddress.of(tmp_path).server == ""


@pytest.mark.system
def test_repeated_begin_registers_a_run_once(tmp_path: Path) -> None:
    request_json = task.dump_request(make_request("fraud"))
    for name in ("run-1", "run-1", "run-2"):
        KubeflowTask(name, str(tmp_path)).begin(request_json)
    assert [run.id for run in store.runs(MetadataAddress.of(tmp_path))] == ["run-1", "run-2"]


def test_begin_with_missing_data_registers_no_run(tmp_path: Path) -> None:
    request_json = task.dump_request(replace(make_request("fraud"), data=str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match="There is no folder"):
        KubeflowTask("run-1", str(tmp_path / "home")).begin(request_json)
    assert store.runs(MetadataAddress.of(tmp_path / "home")) == []


def test_outline_has_settings_without_data() -> None:
    plan = task.outline_plan(RunRequest(FRAUD, changes={"epochs": "3"}, tune=True))
    assert plan.settings["training"]["epochs"] == 3 and plan.space
    with pytest.raises(ValueError, match="no setting 'epoch'"):
        task.outline_plan(RunRequest(FRAUD, changes={"epoch": "3"}))


def fake_outcome(monkeypatch: pytest.MonkeyPatch, state: str, reason: str) -> list[dict]:
    """Replace the outcome module, so that TFMA is not needed; return the stage states of every call."""
    calls: list[dict] = []

    def summarize(runtime, run_id, progress, plan):
        calls.append({name: stage.state for name, stage in progress.items()})
        return state, reason, {"headline": "pr_auc 0.5"}

    fake_module = SimpleNamespace(summarize_outcome=summarize)
    monkeypatch.setitem(sys.modules, "pipeline.outcome", fake_module)
    monkeypatch.setattr(pipeline, "outcome", fake_module, raising=False)
    monkeypatch.setattr(store, "stage_states", lambda *_: {"Trainer": "done", "Pusher": "done"})
    return calls


@pytest.mark.system
def test_end_records_a_pushed_run_and_writes_the_model_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubeflow_task = KubeflowTask("run-1", str(tmp_path))
    kubeflow_task.begin(task.dump_request(make_request("fraud")))
    (tmp_path / "fraud" / "versions" / "1").mkdir(parents=True)
    assert (calls := fake_outcome(monkeypatch, "pushed", "version 1")) == []
    kubeflow_task.end()
    (run,) = store.runs(MetadataAddress.of(tmp_path))
    assert (run.state, run.reason, run.facts["headline"]) == ("pushed", "version 1", "pr_auc 0.5") and run.facts[
        "ended"
    ]
    assert calls == [{"Trainer": "done", "Pusher": "done"}]
    assert f'base_path: "{tmp_path}/fraud/versions"' in (tmp_path / "models.config").read_text()
    kubeflow_task.end()  # a retry of the task does not compute the outcome again
    assert len(calls) == 1


@pytest.mark.system
def test_refused_run_has_its_own_exit_code_and_no_node_runs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    kubeflow_task = KubeflowTask("run-1", str(tmp_path))
    kubeflow_task.begin(task.dump_request(make_request("fraud")))
    fake_outcome(monkeypatch, "refused", "Evaluator: pr_auc is 0.1")
    with pytest.raises(SystemExit) as raised:
        kubeflow_task.end()
    assert raised.value.code == task.REFUSED and "refused Evaluator: pr_auc is 0.1" in capsys.readouterr().out
    assert [run.state for run in store.runs(MetadataAddress.of(tmp_path))] == ["refused"]
    assert not (tmp_path / "models.config").exists()
    monkeypatch.setattr("pipeline.local.runner.launch", lambda *_: pytest.fail("a refused run's node was launched"))
    with pytest.raises(SystemExit) as raised:
        kubeflow_task.node("Evaluator")
    assert raised.value.code == task.REFUSED and "refused Evaluator: pr_auc is 0.1" in capsys.readouterr().out
