"""Recording runs in MLflow: records are complete and unique, and no fault of the tracker affects the run."""

import json
import signal
import socket
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd

from pipeline.home import Home
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import local_file, store
from pipeline.run import Run
from pipeline.runtime import Runtime
from pipeline.tracking import mlflow_process, recording

pytestmark = pytest.mark.system

CURVES = [{"loss": 1.0, "valid_loss": 1.5, "seconds": 2.0}, {"loss": 0.5, "valid_loss": float("nan"), "seconds": 2.0}]
FACTS = {
    "started": "2026-01-02T03:04:05+00:00",
    "ended": "2026-01-02T03:05:05+00:00",
    "source": "/raw",
    "spans": "0:9",
    "data_version": "b2ecbe802a412ab3",
    "commit": "abc1234+",
    "lock": "f00d",
    "libraries": '{"keras": "3"}',
    "settings": json.dumps(
        {"data": {"rows": 9}, "training": {"seed": 1, "strategy": "mirrored", "schedule": "cosine"}}
    ),
    "metrics": '{"pr_auc": 0.75}',
    "slices": '{"country DE": 0.5}',
    "headline": "pr_auc 0.7500",
    "stages": '{"Trainer": {"seconds": 12.5}}',
    "pushed": "/versions/3",
    "version": "3",
}


def save_run(home: Path, state: str = "pushed", trained: bool = True, id_: str = "fraud-1") -> Run:
    """Save an ended run: its record, and a Trainer's execution with its artifacts."""
    run = Run(id_, "fraud", state, "for a reason", "f1", dict(FACTS))
    store.save(Home(home).metadata, run)
    folder = home / id_
    folder.mkdir(exist_ok=True)
    if trained:
        training = {"rows": 900, "steps": 20, "best_epoch": 1, "parameters": 77, "curves": CURVES, "weights": "0a1b"}
        (folder / "training.json").write_text(json.dumps(training))
    comparison = {"rows": [{"model": "LightGBM", "metric": 0.5}]}
    (folder / "comparison.json").write_text(json.dumps(comparison))
    with store.open_for_writing(Home(home).metadata) as connection:
        context = mlmd.Context(type_id=connection.put_context_type(mlmd.ContextType(name="pipeline_run")), name=id_)
        execution = mlmd.Execution(type_id=connection.put_execution_type(mlmd.ExecutionType(name="Trainer")))
        pairs = []
        for key in ("model_run", "comparison", "model"):
            kind = connection.put_artifact_type(mlmd.ArtifactType(name=key))
            event = mlmd.Event(type=mlmd.Event.OUTPUT)
            event.path.steps.add().key = key
            pairs.append((mlmd.Artifact(type_id=kind, uri=str(folder)), event))
        connection.put_execution(execution, pairs, [context])
    return run


def finish(home: Path, ended: Run, address: str = "") -> dict[str, str]:
    runtime = local_runtime(home, address)
    return recording.Tracker(runtime, home / "tracking.log").finish(ended)


@pytest.fixture(scope="module")
def recorded_home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A home with one recorded run, and the resulting facts."""
    home = tmp_path_factory.mktemp("kept")
    return home, finish(home, save_run(home))


def test_recorded_run_is_read_back_completely(recorded_home: tuple[Path, dict[str, str]]) -> None:
    home, facts = recorded_home
    address = f"sqlite:///{home}/mlflow.sqlite"
    assert facts == {"mlflow": facts["mlflow"], "tracked_at": address, "untracked": ""}
    (record,) = mlflow_process.read_records(address, "fraud")
    assert (record["id"], record["run"], record["status"]) == (facts["mlflow"], "fraud-1", "FINISHED")
    assert record["ended"] - record["started"] == 60_000
    assert record["params"] == {"rows": "9", "seed": "1", "strategy": "mirrored", "schedule": "cosine"}
    expected = {
        "pr_auc": 0.75,
        "slice/country DE": 0.5,
        "comparison/LightGBM": 0.5,
        "seconds/Trainer": 12.5,
        "rows": 900,
        "steps": 20,
        "best_epoch": 1,
        "parameters": 77,
        "epoch/loss": 0.5,
        "epoch/valid_loss": 1.5,
        "epoch/seconds": 2.0,
    }
    assert record["metrics"] == expected
    tags = {
        "state": "pushed",
        "reason": "for a reason",
        "model": "/versions/3",
        "data.version": "b2ecbe802a412ab3",
        "data.spans": "0:9",
        "commit": "abc1234+",
        "lock": "f00d",
        "strategy": "mirrored",
        "weights": "0a1b",
    }
    assert record["tags"].items() >= tags.items()
    assert record["data"] == {"name": "fraud 0:9", "digest": "b2ecbe802a412ab3"}
    assert mlflow_process.read_curve(address, record["id"], "loss") == [(1, 1.0), (2, 0.5)]
    assert mlflow_process.read_curve(address, record["id"], "valid_loss") == [(1, 1.5)]  # NaN is left out


def test_records_of_a_home_without_write_permission_are_read_and_stay_unchanged(
    recorded_home: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, facts = recorded_home
    address, files = f"sqlite:///{home}/mlflow.sqlite", {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    monkeypatch.setattr(local_file, "is_writable", lambda file: False)
    (record,) = mlflow_process.read_records(address, "fraud")
    assert record["id"] == facts["mlflow"] and mlflow_process.read_curve(address, record["id"], "loss")
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == files


def test_resumed_run_has_one_record_with_the_last_state(
    recorded_home: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    address, failed_run = (
        f"sqlite:///{recorded_home[0]}/mlflow.sqlite",
        replace(save_run(tmp_path, "failed"), case="image"),
    )
    client = mlflow_process.open_client(address)
    for ended in (failed_run, replace(failed_run, state="refused")):
        record_id = mlflow_process.write_record(
            client, recording.build_record(local_runtime(tmp_path), ended), str(tmp_path / "mlflow")
        )
    (record,) = mlflow_process.read_records(address, "image")
    assert record["id"] == record_id and record["status"] == "FINISHED" and record["tags"]["state"] == "refused"
    assert mlflow_process.read_records(address, "another case") == []


def test_only_pushed_refused_or_trained_runs_are_recorded(tmp_path: Path) -> None:
    def is_recorded(state: str, trained: bool) -> bool:
        home = tmp_path / f"{state}{trained}"
        home.mkdir()
        return recording.should_record(local_runtime(home), save_run(home, state, trained))

    assert is_recorded("pushed", True) and is_recorded("refused", False) and is_recorded("failed", True)
    assert not is_recorded("failed", False) and not is_recorded("interrupted", True)


def test_refused_run_links_to_the_trained_model(tmp_path: Path) -> None:
    ended = save_run(tmp_path, "refused")
    ended.facts.pop("pushed")
    assert recording.build_record(local_runtime(tmp_path), ended)["tags"]["model"] == str(tmp_path / "fraud-1")


def test_disabled_tracking_writes_no_file(tmp_path: Path) -> None:
    ended = save_run(tmp_path)
    before = set(tmp_path.iterdir())
    assert finish(tmp_path, ended, recording.TRACKING_OFF) == {}
    assert set(tmp_path.iterdir()) == before


def make_broken_store(tmp_path: Path, fault: str) -> str:
    """Create a store with a fault; return its address."""
    path = tmp_path / "broken.sqlite"
    if fault == "corrupt":
        path.write_bytes(b"no database at all " * 500)
    elif fault == "folder":
        path.mkdir()
    elif fault == "read-only":
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE one (two)")
        return f"sqlite:///file:{path}?mode=ro&uri=true"
    return f"sqlite:///{path}"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("corrupt", "file is not a database"),
        ("folder", "unable to open database file"),
        ("read-only", "attempt to write a readonly database"),
    ],
)
def test_broken_store_gives_a_one_sentence_reason(tmp_path: Path, fault: str, message: str) -> None:
    address = make_broken_store(tmp_path, fault)
    facts = finish(tmp_path, save_run(tmp_path), address)
    assert list(facts) == ["untracked"]
    assert facts["untracked"].startswith(f"The run is not recorded in MLflow at {address}: {message}")


def test_silent_server_times_out_and_its_process_is_killed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(recording, "TIMEOUT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        tracker = recording.Tracker(
            local_runtime(tmp_path, f"http://127.0.0.1:{listening.getsockname()[1]}"), tmp_path / "log"
        )
        reason = tracker.finish(save_run(tmp_path))["untracked"]
    assert "no answer within 0.1 s" in reason and tracker._process.returncode == -signal.SIGKILL


def test_invalid_record_or_failed_start_gives_a_reason(tmp_path, monkeypatch) -> None:
    ended = save_run(tmp_path)
    assert "JSONDecodeError" in finish(tmp_path, replace(ended, facts={**FACTS, "settings": "{"}))["untracked"]
    monkeypatch.setattr(recording.sys, "executable", str(tmp_path / "nothing"))
    reason = finish(tmp_path, ended, "http://user:secret@host")["untracked"]
    assert "in MLflow at http://host: " in reason and "No such file" in reason and "secret" not in reason


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://u:p@host:5000/a@b", "http://host:5000/a@b"),
        ("http://host:5000", "http://host:5000"),
        ("sqlite:////home/a@b/mlflow.sqlite", "sqlite:////home/a@b/mlflow.sqlite"),
    ],
)
def test_credentials_are_removed_from_addresses(address: str, shown: str) -> None:
    assert recording.hide_credentials(address) == shown


def test_default_store_is_in_the_home() -> None:
    assert recording.tracking_address(Runtime("/home/x", ())) == "sqlite:////home/x/mlflow.sqlite"
    assert recording.tracking_address(Runtime("/home/x", (), tracking="http://host")) == "http://host"
