"""Records of runs: all of it comes back, once, and nothing that is wrong with the tracker reaches the run."""

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd
from support.command import ROOT
from support.process import alive

from pipeline import code_digest
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
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


def run(home: Path, state: str = "pushed", trained: bool = True, id_: str = "fraud-1") -> store.Run:
    """A run as it ends: its record, and a Trainer's execution with what that left behind."""
    found = store.Run(id_, "fraud", state, "for a reason", "f1", dict(FACTS))
    store.save(local_runtime(home).metadata, found)
    folder = home / id_
    folder.mkdir(exist_ok=True)
    if trained:
        told = {"rows": 900, "steps": 20, "best_epoch": 1, "parameters": 77, "curves": CURVES, "weights": "0a1b"}
        (folder / "training.json").write_text(json.dumps(told))
    compared = {"rows": [{"model": "LightGBM", "metric": 0.5}]}
    (folder / "comparison.json").write_text(json.dumps(compared))
    with store.opened(local_runtime(home).metadata) as opened:
        context = mlmd.Context(type_id=opened.put_context_type(mlmd.ContextType(name="pipeline_run")), name=id_)
        execution = mlmd.Execution(type_id=opened.put_execution_type(mlmd.ExecutionType(name="Trainer")))
        pairs = []
        for key in ("model_run", "comparison", "model"):
            kind = opened.put_artifact_type(mlmd.ArtifactType(name=key))
            event = mlmd.Event(type=mlmd.Event.OUTPUT)
            event.path.steps.add().key = key
            pairs.append((mlmd.Artifact(type_id=kind, uri=str(folder)), event))
        opened.put_execution(execution, pairs, [context])
    return found


def finished(home: Path, ended: store.Run, address: str = "") -> dict[str, str]:
    runtime = local_runtime(home, address)
    return recording.Tracker(runtime, home / "tracking.log").finish(ended)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A home with one run recorded, and the facts that this gave."""
    home = tmp_path_factory.mktemp("kept")
    return home, finished(home, run(home))


def test_a_run_comes_back_with_all_that_was_recorded(kept: tuple[Path, dict[str, str]]) -> None:
    home, facts = kept
    address = f"sqlite:///{home}/mlflow.sqlite"
    assert facts == {"mlflow": facts["mlflow"], "tracked_at": address, "untracked": ""}
    (found,) = mlflow_process.recorded(address, "fraud")
    assert (found["id"], found["run"], found["status"]) == (facts["mlflow"], "fraud-1", "FINISHED")
    assert found["ended"] - found["started"] == 60_000
    assert found["params"] == {"rows": "9", "seed": "1", "strategy": "mirrored", "schedule": "cosine"}
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
    assert found["metrics"] == expected
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
    assert found["tags"].items() >= tags.items()
    assert found["data"] == {"name": "fraud 0:9", "digest": "b2ecbe802a412ab3"}
    assert mlflow_process.curve(address, found["id"], "loss") == [(1, 1.0), (2, 0.5)]
    assert mlflow_process.curve(address, found["id"], "valid_loss") == [(1, 1.5)]  # what is no number is left out


def test_a_run_that_goes_on_after_a_stop_has_one_record_and_it_is_the_last(
    kept: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    address, failed = f"sqlite:///{kept[0]}/mlflow.sqlite", replace(run(tmp_path, "failed"), case="image")
    client = mlflow_process.opened(address)
    for ended in (failed, replace(failed, state="refused")):
        made = mlflow_process.write(client, recording.record(local_runtime(tmp_path), ended), str(tmp_path / "mlflow"))
    (found,) = mlflow_process.recorded(address, "image")
    assert found["id"] == made and found["status"] == "FINISHED" and found["tags"]["state"] == "refused"
    assert mlflow_process.recorded(address, "another case") == []


def test_only_runs_that_trained_or_were_refused_or_pushed_are_worth_a_record(tmp_path: Path) -> None:
    def worthy(state: str, trained: bool) -> bool:
        home = tmp_path / f"{state}{trained}"
        home.mkdir()
        return recording.worthy(local_runtime(home), run(home, state, trained))

    assert worthy("pushed", True) and worthy("refused", False) and worthy("failed", True)
    assert not worthy("failed", False) and not worthy("interrupted", True)


def test_what_was_not_pushed_links_to_the_trained_model(tmp_path: Path) -> None:
    ended = run(tmp_path, "refused")
    ended.facts.pop("pushed")
    assert recording.record(local_runtime(tmp_path), ended)["tags"]["model"] == str(tmp_path / "fraud-1")


def test_tracking_that_is_off_starts_nothing_and_writes_nothing(tmp_path: Path) -> None:
    ended = run(tmp_path)
    before = set(tmp_path.iterdir())
    assert finished(tmp_path, ended, recording.OFF) == {}
    assert set(tmp_path.iterdir()) == before


def broken(tmp_path: Path, how: str) -> str:
    """The address of a store with a fault."""
    path = tmp_path / "broken.sqlite"
    if how == "corrupt":
        path.write_bytes(b"no database at all " * 500)
    elif how == "folder":
        path.mkdir()
    elif how == "read-only":
        with sqlite3.connect(path) as made:
            made.execute("CREATE TABLE one (two)")
        return f"sqlite:///file:{path}?mode=ro&uri=true"
    return f"sqlite:///{path}"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("corrupt", "file is not a database"),
        ("folder", "unable to open database file"),
        ("read-only", "attempt to write a readonly database"),
    ],
)
def test_a_broken_store_is_one_sentence_and_soon(tmp_path: Path, how: str, said: str) -> None:
    address = broken(tmp_path, how)
    facts = finished(tmp_path, run(tmp_path), address)
    assert list(facts) == ["untracked"]
    assert facts["untracked"].startswith(f"The run is not recorded in MLflow at {address}: {said}")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> Callable[..., tuple[dict[str, str], str]]:
    """Runs the process's program in this one; gives its answer, and what it says beside."""

    def do(address: str, record: dict) -> tuple[dict[str, str], str]:
        monkeypatch.setattr(mlflow_process.os, "nice", lambda by: None)
        monkeypatch.setattr(sys, "argv", ["tracker", str(tmp_path)])
        monkeypatch.setattr(sys, "stdin", StringIO(json.dumps(record)))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        mlflow_process.main()
        said = capsys.readouterr()
        return json.loads(said.out), said.err

    return do


def test_a_server_that_is_not_there_is_one_sentence_without_its_password(
    tmp_path: Path, program: Callable[..., tuple[dict[str, str], str]]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://user:secret@127.0.0.1:{free.getsockname()[1]}"
    answer, _ = program(address, recording.record(local_runtime(tmp_path), run(tmp_path)))
    assert answer["error"].startswith("the server does not answer") and "secret" not in answer["error"]


def test_a_server_that_never_answers_is_not_waited_for(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(recording, "SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        one = recording.Tracker(
            local_runtime(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}"), tmp_path / "log"
        )
        said = one.finish(run(tmp_path))["untracked"]
    assert "no answer within 0.1 s" in said and one._process.returncode == -signal.SIGKILL


def test_what_mlflow_prints_of_a_server_is_not_taken_for_the_answer(
    monkeypatch, program: Callable[..., tuple[dict[str, str], str]]
) -> None:
    monkeypatch.setattr(mlflow_process, "opened", lambda *_: print("View run at http://host"))
    monkeypatch.setattr(mlflow_process, "write", lambda *_: print("View experiment") or "id-1")
    answer, said = program("http://host", {"run": "fraud-1"})
    assert answer == {"id": "id-1"} and "View run" in said


def test_a_run_that_cannot_be_described_or_a_process_that_cannot_start_is_a_sentence_too(tmp_path, monkeypatch) -> None:
    ended = run(tmp_path)
    assert "JSONDecodeError" in finished(tmp_path, replace(ended, facts={**FACTS, "settings": "{"}))["untracked"]
    monkeypatch.setattr(recording.sys, "executable", str(tmp_path / "nothing"))
    said = finished(tmp_path, ended, "http://user:secret@host")["untracked"]
    assert "in MLflow at http://host: " in said and "No such file" in said and "secret" not in said


def test_the_process_ends_with_the_run_even_if_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from pipeline.tracking import recording\n"
        "from pipeline.local.local_runtime import local_runtime\n"
        f"one = recording.Tracker(local_runtime(Path({str(tmp_path)!r})), Path({str(tmp_path)!r}, 'log'))\n"
        "print(one._process.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and alive(child):
        time.sleep(0.01)
    assert not alive(child)
    made = tmp_path / "mlflow.sqlite"
    assert not made.exists() or not made.stat().st_size  # it ended without the seconds of work on a store for nobody


def test_the_process_does_not_end_while_it_makes_the_tables() -> None:
    program = (
        "from pipeline.tracking import mlflow_process\n"
        "record = mlflow_process.RecordReader()\n"
        "with record.busy:\n"
        "    print('busy', flush=True)\n"
        "    record._reader.join(0.2)\n"
        "    print('made', flush=True)\n"
        "record.text()\n"
        "print('went on', flush=True)"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, **pipes) as process:
        assert process.stdout.readline() == "busy\n"
        process.stdin.close()
        assert process.stdout.read() == "made\n" and process.wait(60) == 0


def test_the_lock_is_known_by_its_content_and_only_where_there_is_one(tmp_path: Path) -> None:
    lock = tmp_path / "uv.lock"
    assert code_digest.lock(lock) == ""
    lock.write_bytes(b"abc")
    assert code_digest.lock(lock) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://u:p@host:5000/a@b", "http://host:5000/a@b"),
        ("http://host:5000", "http://host:5000"),
        ("sqlite:////home/a@b/mlflow.sqlite", "sqlite:////home/a@b/mlflow.sqlite"),
    ],
)
def test_an_address_is_shown_without_its_password(address: str, shown: str) -> None:
    assert recording.shown(address) == shown


def test_without_an_address_the_store_is_in_the_home() -> None:
    assert recording.address(Runtime("/home/x", ())) == "sqlite:////home/x/mlflow.sqlite"
    assert recording.address(Runtime("/home/x", (), tracking="http://host")) == "http://host"
