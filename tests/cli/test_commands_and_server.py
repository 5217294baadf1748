"""Every command on a home with a metadata server: the same output as with a file, and one error without the server."""

import json
import os
import re
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import typer
from support.command import showcase
from support.shown_home import RUN
from support.stored_home import Homes, plant_homes, put_finished_run
from support.tried_home import run_gateway

from benchmarks import runs as benchmarks
from cli import main, monitor_command
from models.catalog import CASES
from pipeline.home import Home
from pipeline.metadata import store, store_address
from pipeline.metadata.store_address import SQLITE_FILE, MetadataAddress
from pipeline.monitoring import retraining_loop
from pipeline.online import serve
from tour import notes, trace
from tour.incidents import scratch
from tour.incidents.incident import LiveSystem

pytestmark = pytest.mark.system

# Arguments of each command, without --home.
ARGUMENTS = {
    "status": ("", "fraud", "--json"),
    "runs": ("", "--json", "fraud --compare", f"{RUN} 20260104-030405-006 --json", "nothing"),
    "monitor": ("fraud", "fraud --json", "image"),
    "neighbours": ("fraud m1", "fraud m9"),
    "dvc": ("fraud --check",),
    "ask": ("A15 --prove --json",),
    "evidence": ("--out {home}/evidence --json",),
    "traffic": ("fraud --gateway {gateway} --spans 1:1 --rate 0 --no-labels --json",),
    "refresh": ("fraud",),
    "run": ("image --data {home}/digits --tracking none --json",),
    "break": ("",),
    "rollback": ("fraud",),
    "promote": ("fraud 2",),
    "browser": ("fraud",),
}
ELSEWHERE = {
    "doctor": "names the store: test_doctor_reports_whether_the_store_answers",
    "serve": "runs until it is stopped: test_gateway_starts_with_the_history_that_the_store_names",
    "schema": "runs stages: test_local_stages_write_to_the_server",
    "rehearse": "runs a whole pipeline: tests/pipeline/kubeflow/test_local_run.py does it behind a server",
    "demo": "combines run, serve, traffic, monitor and tour",
    "tour": "serves pages: tests/tour/web/pages/test_pages_and_server.py requests each",
    "generate": "has no home",
    "compile": "has no home",
    "submit": "writes only logs into its home",
    "check": "reads data and no store",
}
NO_STORE_NEEDED = ("break", "rollback", "promote", "browser", "ask A15")
STORE_NEEDED = [
    *(f"{name} {texts[0]}" for name, texts in ARGUMENTS.items() if name not in NO_STORE_NEEDED),
    "monitor fraud --json",
    "break model",
    "break worker",
    "demo --headless",
    "rehearse fraud",
    "schema fraud",
]


@dataclass(frozen=True)
class Answer:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


Ask = Callable[..., Answer]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Homes]:
    with plant_homes(tmp_path_factory.mktemp("homes")) as pair:
        for home in (pair.file, pair.grpc):
            put_finished_run(home)
        yield pair


@pytest.fixture(scope="module")
def gateway(planted: Homes) -> Iterator[str]:
    with run_gateway(planted.file) as address:
        yield address


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Ask:
    """Run the console script in this process, with one question and without the server of the browser page."""
    note, questions = notes.current()["A15"], {"A15": notes.questions()["A15"]}
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(notes, "questions", lambda: questions)
    monkeypatch.setattr(notes, "read", lambda: {"A15": note})
    monkeypatch.setattr("serving.browser.site.serve", lambda versions, port: print(versions, port))

    def run_command(text: str, home: Path, gateway: str = "127.0.0.1:1") -> Answer:
        arguments = text.format(home=home, gateway=gateway).split()
        monkeypatch.setattr(sys, "argv", ["showcase", *arguments, "--home", str(home)])
        capfd.readouterr()
        code = 0
        with warnings.catch_warnings(), patch.dict(os.environ):
            try:
                main.main()
            except SystemExit as end:
                code = int(end.code or 0)
        return Answer(code, *capfd.readouterr())

    return run_command


def plain(planted: Homes, text: str) -> str:
    """Replace what differs between calls: the home, times and durations."""
    text = planted.plain(text)
    text = re.sub(r"(fraud|image)-(?!2026010)\d{8}-\d{6}-\d{3}", r"\1-NEW", text)
    text = re.sub(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d", "TIME", text)
    text = re.sub(r'"seconds": [\d.]+', "SECONDS", text)
    text = re.sub(
        r'"replayed": \d+', "REPLAYED", text
    )  # both calls send the same rows, and only the first sends new ones
    text = re.sub(r'"fingerprint": "\w+"', "FINGERPRINT", text)  # it contains the folder of the data
    return re.sub(r"\b\d+\.\d+(e-\d+)?( s\b|(?=,?\n))", "N", text)


def test_every_command_is_tried_here_or_elsewhere() -> None:
    commands = set(typer.main.get_command(main.app).commands)
    assert commands == ARGUMENTS.keys() | ELSEWHERE.keys() and not ARGUMENTS.keys() & ELSEWHERE.keys()


@pytest.mark.parametrize("text", [f"{name} {text}".strip() for name, texts in ARGUMENTS.items() for text in texts])
def test_command_prints_the_same_with_a_metadata_server(planted: Homes, gateway: str, ask: Ask, text: str) -> None:
    file, grpc = (ask(text, home, gateway) for home in (planted.file, planted.grpc))
    assert (grpc.code, plain(planted, grpc.out), plain(planted, grpc.err)) == (
        file.code,
        plain(planted, file.out),
        plain(planted, file.err),
    )
    assert file.out if file.code < 2 else file.err.startswith("error:")
    assert not list(planted.grpc.glob("metadata.[sl]*"))


@pytest.mark.parametrize("text", STORE_NEEDED)
def test_unreachable_store_is_reported_in_one_sentence(planted: Homes, ask: Ask, text: str) -> None:
    answer = ask(text, planted.gone)
    message = (
        f"error: The metadata store at grpc://127.0.0.1:{planted.port} does not answer: Connection refused. Start it"
    )
    assert (answer.code, message in answer.err.splitlines()[-1], "Traceback" in answer.err) == (2, True, False), answer
    assert not list(planted.gone.glob("metadata.[sl]*")) and not (planted.gone / "data").exists()


@pytest.mark.parametrize("text", NO_STORE_NEEDED)
def test_command_that_needs_no_store_works_without_it(planted: Homes, ask: Ask, text: str) -> None:
    text = " ".join((text, *ARGUMENTS.get(text, ())))
    answer = ask(text, planted.gone)
    assert answer.code == 0 and answer.out and not answer.err


def test_doctor_reports_whether_the_store_answers(planted: Homes, ask: Ask, tmp_path: Path) -> None:
    stores = {}
    for home in (planted.file, planted.grpc, planted.gone, tmp_path):
        checks = json.loads(ask("doctor --json", home).out)
        (stores[home],) = [check for check in checks if check["name"] == "Metadata store"]
    assert stores[planted.file] == {
        "name": "Metadata store",
        "state": "ok",
        "found": f"{planted.file / SQLITE_FILE}",
        "advice": "",
    }
    assert stores[planted.grpc]["state"] == "ok" and stores[planted.grpc]["found"].startswith("grpc://127.0.0.1:")
    assert stores[planted.gone]["state"] == "missing" and "does not answer" in stores[planted.gone]["advice"]
    assert stores[tmp_path]["state"] == "ok" and stores[tmp_path]["found"].endswith(f"{SQLITE_FILE}, not there yet")
    assert ask("doctor", planted.gone).code == 1


def test_monitor_resumes_when_the_store_is_back(
    planted: Homes, ask: Ask, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class StopLoopError(Exception):
        """Ends the loop of the monitor."""

    results, waits, once = [], [], retraining_loop.run_monitor_once
    server = MetadataAddress.of(planted.grpc).server

    def check(*arguments: Any) -> Any:
        results.append("lost")
        results[-1] = once(*arguments)
        return results[-1]

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            store_address.write_server_address(planted.gone, server)
        if len(waits) == 3:
            raise StopLoopError

    monkeypatch.setattr(retraining_loop, "run_monitor_once", check)
    monkeypatch.setattr(monitor_command.time, "sleep", wait)
    try:
        with pytest.raises(StopLoopError):
            ask("monitor fraud --watch --every 7", planted.gone)
    finally:
        store_address.write_server_address(planted.gone, f"grpc://127.0.0.1:{planted.port}")
    assert results == ["lost", "lost", (None, None)]
    assert capfd.readouterr().out.count("does not answer") == 1


@pytest.mark.parametrize(
    ("name", "started_before", "answered"),
    [("file", False, True), ("grpc", False, True), ("gone", False, False), ("gone", True, True)],
)
def test_gateway_starts_with_the_history_that_the_store_names(
    planted: Homes,
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    name: str,
    started_before: bool,
    answered: bool,
) -> None:
    """Without the store only a gateway that was started before can answer, from its stored history."""
    cases: list[str] = []

    def announce(addresses: dict[str, Any], stack: Any, as_json: bool) -> None:
        cases.extend(stack.gateway.scorers)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(serve, "_announce", announce)
    ignored = shutil.ignore_patterns(*([] if started_before else ["online"]))
    home = shutil.copytree(getattr(planted, name), tmp_path / "home", ignore=ignored)
    answer = ask("serve --backend 127.0.0.1:1 --port 0 --no-monitor", home)
    assert answer.code == 0, answer.err
    assert sorted(cases) == (["fraud", "image"] if answered else [])
    assert ("does not answer" in caplog.text) != answered


@pytest.mark.parametrize("name", ["file", "grpc"])
def test_incident_copies_the_last_pushed_run(planted: Homes, name: str) -> None:
    home = getattr(planted, name)
    source = Home(home).metadata
    with scratch.copy_served_version(LiveSystem(home), CASES["fraud"]) as copy:
        own = Home(copy).metadata
        assert own.file and [run.id for run in store.runs(own)] == [RUN]
        assert store.stage_states(own, RUN) == store.stage_states(source, RUN)
        copied, original = store.outputs(own, RUN), store.outputs(source, RUN)
        assert {
            stage: {key: artifact.uri for key, artifact in artifacts.items()} for stage, artifacts in copied.items()
        } == {
            stage: {key: artifact.uri for key, artifact in artifacts.items()} for stage, artifacts in original.items()
        }


def test_benchmark_finds_the_pushed_run_or_exits_with_an_error(planted: Homes) -> None:
    runs = [benchmarks.find_artifacts(home, "image") for home in (planted.file, planted.grpc)]
    plain_paths = [{key: planted.plain(str(path)) for key, path in outputs.items()} for outputs, _ in runs]
    assert plain_paths[0] == plain_paths[1] and plain_paths[0]["model"] == "HOME/artifacts/model"
    with pytest.raises(SystemExit, match="error: The metadata store at grpc://.* does not answer"):
        benchmarks.find_artifacts(planted.gone, "image")


def test_local_stages_write_to_the_server(planted: Homes, tmp_path: Path) -> None:
    """Stages are forked from a process that called the server before."""
    address, home = MetadataAddress.of(planted.grpc), tmp_path / "home"
    store_address.write_server_address(home, address.server)
    shutil.copytree(planted.grpc / "digits", tmp_path / "digits")
    result = showcase("schema", "image", "--data", tmp_path / "digits", "--home", home)
    assert result.returncode == 0, result.stdout + result.stderr
    assert 'name: "label"' in result.stdout and 'name: "brightness"' in result.stdout
    (run_id,) = trace.run_ids(address, "schema-")
    assert {stage: state for stage, state in store.stage_states(address, run_id).items() if state != "done"} == {}
    assert not (home / SQLITE_FILE).exists()
