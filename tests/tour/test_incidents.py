"""Incidents: what they refuse, what they leave behind, and each of them on a served copy of the pushed home."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.command import ROOT, showcase
from support.in_process import run_in_process
from support.pushed_home import copy_home
from support.served_models import POLL, export_half_plus, run_model_server

from pipeline.metadata import store
from pipeline.online import rollouts
from serving.drift.gateway_monitor import STATE_FILE
from serving.server.app import ServerOptions
from serving.server.config import ModelConfig
from tour import incidents
from tour.incidents import INCIDENTS, drifting_traffic, model, scratch, server
from tour.incidents.incident import (
    IncidentEvent,
    IncidentFailedError,
    LiveSystem,
    MissingPrerequisiteError,
    StagedIncident,
    wait_until,
)

pytestmark = pytest.mark.system

NAMES = ("schema", "drift", "model", "worker", "server", "flood")


def texts(events: Iterator[IncidentEvent]) -> list[str]:
    return [event.text for event in events]


def test_incidents_are_listed_with_their_descriptions(tmp_path: Path) -> None:
    assert tuple(INCIDENTS) == NAMES and all(incident.name == name for name, incident in INCIDENTS.items())
    assert all(
        incident.what.endswith(".") and incident.undone.endswith(".") and incident.title
        for incident in INCIDENTS.values()
    )
    result = run_in_process("break", "--home", tmp_path)
    assert result.returncode == 0 and all(f"{name} " in result.stdout for name in NAMES)


@pytest.mark.parametrize(("name", "undo"), [(name, False) for name in NAMES[1:]] + [("drift", True), ("server", True)])
def test_missing_precondition_is_reported_before_anything_is_changed(tmp_path: Path, name: str, undo: bool) -> None:
    with pytest.raises(MissingPrerequisiteError, match="showcase (demo|serve|run)"):
        list(incidents.play(name, LiveSystem(tmp_path), undo))
    assert [path.name for path in tmp_path.iterdir()] == ["break.lock"]


@pytest.mark.parametrize("name", ["schema", "worker", "flood", "model"])
def test_undo_of_an_incident_that_was_not_played_succeeds(tmp_path: Path, name: str) -> None:
    assert [event.kind for event in incidents.play(name, LiveSystem(tmp_path), undo=True)] == ["good"]


def test_unknown_name_and_second_incident_at_a_time_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingPrerequisiteError, match="There is no incident 'fire'; there are schema, drift"):
        list(incidents.play("fire", LiveSystem(tmp_path)))

    def slow(live: LiveSystem) -> Iterator[IncidentEvent]:
        yield IncidentEvent("begun")
        yield IncidentEvent("done")

    scenarios = {"slow": StagedIncident("slow", "", "", "", slow, slow)}
    first = incidents.play("slow", LiveSystem(tmp_path), incidents=scenarios)
    next(first)
    with pytest.raises(store.BusyError, match="Another incident is under way"):
        list(incidents.play("slow", LiveSystem(tmp_path), incidents=scenarios))
    first.close()
    assert texts(incidents.play("slow", LiveSystem(tmp_path), incidents=scenarios)) == ["begun", "done"]


def test_interrupted_incident_ends_its_process_and_deletes_its_folder(tmp_path: Path, monkeypatch) -> None:
    started = []

    def start(words: list, log: Path, module: str) -> subprocess.Popen:
        log.write_text("on\n")
        started.append(subprocess.Popen(["sleep", "600"], start_new_session=True))
        return started[0]

    monkeypatch.setattr(scratch.processes, "start", start)

    def play() -> Iterator[str]:
        with scratch.make_folder(LiveSystem(tmp_path)) as home, scratch.run_child([], home / "log") as process:
            yield from scratch.follow_log(home / "log", process)

    lines = play()
    assert next(lines) == "on" and len(list(tmp_path.iterdir())) == 1
    lines.close()
    assert not list(tmp_path.iterdir()) and started[0].poll() is not None


def test_log_lines_are_yielded_as_they_are_written(tmp_path: Path) -> None:
    code = "import time; print('one', flush=True); time.sleep(.3); print('two\\nthree', flush=True)"
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=log)
    lines = list(scratch.follow_log(tmp_path / "log", process))
    assert [line for line in lines if line] == ["one", "two", "three"] and "" in lines[
        lines.index("one") : lines.index("two")
    ]


def test_garbage_version_is_not_served_and_is_deleted(tmp_path: Path) -> None:
    """On a real model server: the garbage version does not load, and the version before it continues to answer."""
    versions = tmp_path / "image" / "versions"
    export_half_plus(versions / "1", 1.0)
    with run_model_server(
        ServerOptions([ModelConfig("image", str(versions))], grpc_port=0, rest_port=0, poll=POLL)
    ) as app:
        address = f"http://127.0.0.1:{app.rest_port}"
        wait_until(lambda: model._list_available_versions(address, "image") == ["1"], 60, "no")
        events = list(model.add_broken_version(LiveSystem(tmp_path), address))
        assert [event.kind for event in events] == ["bad", "good", "good", "info"] and "Version 2" in events[0].text
        assert events[1].data["error"] and events[2].text == "Version 1 continues to answer."
        assert [path.name for path in versions.iterdir() if path.name.isdigit()] == ["1"]
        answer = httpx.post(f"{address}/v1/models/image:predict", json={"instances": [{"x": [2.0]}]})
        assert answer.json() == {"predictions": [{"y": [2.0]}]} or answer.json() == {"predictions": [[2.0]]}


def test_undo_deletes_only_versions_that_the_incident_made(tmp_path: Path) -> None:
    for number, mark in (("1", False), ("2", True)):
        folder = tmp_path / "image" / "versions" / number
        folder.mkdir(parents=True)
        if mark:
            (folder / model.MARK).touch()
    assert "deleted: 1" in texts(model.undo(LiveSystem(tmp_path)))[0]
    assert [path.name for path in (tmp_path / "image" / "versions").iterdir()] == ["1"]


def test_server_is_restarted_with_its_arguments_and_current_ports(tmp_path: Path) -> None:
    process = subprocess.Popen(["sleep", "600"])
    try:
        record = {"pid": process.pid, "gateway": 38080, "rest": None, "grpc": 38500}
        wait_until(lambda: Path(f"/proc/{process.pid}/cmdline").read_bytes(), 30, "the process has no command line yet")
        arguments = server.read_command_line(record)
        assert arguments == ["sleep", "600", "--port", "38080", "--rest-port", "-1", "--grpc-port", "38500"]
        assert scratch.is_alive(process.pid)
        process.kill()
        wait_until(lambda: not scratch.is_alive(process.pid), 30, "the killed process counts as alive")
    finally:
        process.kill()
        process.wait()


def test_drift_is_refused_while_an_incident_is_open(tmp_path: Path) -> None:
    (tmp_path / rollouts.SERVER_RECORD_FILE).write_text(
        json.dumps({"pid": os.getpid(), "host": "127.0.0.1", "gateway": 1})
    )
    folder = tmp_path / "fraud" / "online"
    folder.mkdir(parents=True)
    history = [{"id": 1, "kind": "drift", "opened": 20553, "causes": ["amount"], "state": "open"}]
    (folder / STATE_FILE).write_text(json.dumps({"judge": {"incidents": {"seen": history}}}))
    with pytest.raises(MissingPrerequisiteError, match="open already, since 2026-04-10"):
        list(drifting_traffic.run(LiveSystem(tmp_path)))


def test_timeout_error_names_what_did_not_happen() -> None:
    with pytest.raises(IncidentFailedError, match="It did not come within 0 s"):
        wait_until(lambda: False, 0.05, "It did not come")


@pytest.fixture(scope="module")
def served_home(pushed_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the pushed home with a running server."""
    home = copy_home(pushed_home, tmp_path_factory.mktemp("served"))
    arguments = [
        "serve",
        "--home",
        str(home),
        "--port",
        "0",
        "--rest-port",
        "0",
        "--grpc-port",
        "-1",
        "--timeout",
        "30",
        "--json",
    ]
    with (home / "serve.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True
        )
    assert process.stdout.readline(), (home / "serve.log").read_text()[-2000:]
    yield home
    server = rollouts.find_running_server(home)
    process.poll() or process.terminate()
    if server and server["pid"] != process.pid:
        os.kill(server["pid"], 15)
    process.wait(120)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_incident_is_played_and_undone_on_a_live_system(served_home: Path, name: str) -> None:
    result = showcase("break", name, "--home", served_home, "--json", timeout=3600)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-2000:]
    events = [json.loads(line) for line in result.stdout.splitlines()]
    kinds = [event["kind"] for event in events]
    assert "bad" in kinds and kinds[-1] != "bad" and "good" in kinds[kinds.index("bad") :]
    expected = {
        "schema": "feature 'category'",
        "drift": "drift since 20",
        "model": "accuracy",
        "worker": "went on at step",
        "server": "acknowledged predictions are in the log",
        "flood": "refused with 429",
    }
    assert any(expected[name] in event["text"] for event in events)
    assert not list(served_home.glob(".break-*"))
    undo = showcase("break", name, "--undo", "--home", served_home, timeout=3600)
    assert undo.returncode == 0, undo.stdout[-3000:] + undo.stderr[-2000:]
    time.sleep(0.1)
