"""Every command on a home whose metadata are behind a server: the same answers as from a file, and one sentence without it."""

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
from support.stored_home import Homes, homes, put_finished_run
from support.tried_home import answering

from benchmarks import runs as benchmarks
from cli import main, monitor_command
from models.catalog import CASES
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store, store_address
from pipeline.metadata.store_address import FILE, MetadataAddress
from pipeline.monitoring import loop
from pipeline.online import serve
from tour import notes, trace
from tour.incidents import scratch
from tour.incidents.incident import Live

pytestmark = pytest.mark.system

# What each command is given beside --home.
ASKED = {
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
    "doctor": "names the store: test_the_doctor_says_whether_the_store_answers",
    "serve": "goes on until it is stopped: test_a_gateway_begins_with_the_history_that_the_store_names",
    "schema": "runs stages: test_stages_of_this_machine_write_to_the_server",
    "rehearse": "runs a whole pipeline: tests/pipeline/kubeflow/test_local_run.py does it behind a server",
    "demo": "puts run, serve, traffic, monitor and tour together",
    "tour": "serves pages: tests/tour/web/pages/test_pages_and_server.py asks for each",
    "generate": "has no home",
    "compile": "has no home",
    "submit": "has no home",
}
UNTOUCHED = ("break", "rollback", "promote", "browser", "ask A15")
LOST = [
    *(f"{name} {texts[0]}" for name, texts in ASKED.items() if name not in UNTOUCHED),
    "monitor fraud --json",
    "break model",
    "break worker",
    "demo --headless",
    "rehearse fraud",
    "schema fraud",
]


@dataclass(frozen=True)
class Answer:
    """What a command did."""

    code: int
    out: str
    err: str


Ask = Callable[..., Answer]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Homes]:
    with homes(tmp_path_factory.mktemp("homes")) as made:
        for home in (made.file, made.grpc):
            put_finished_run(home)
        yield made


@pytest.fixture(scope="module")
def gateway(planted: Homes) -> Iterator[str]:
    with answering(planted.file) as address:
        yield address


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Ask:
    """The console script, in this process, with one question and without a browser's server."""
    note, questions = notes.current()["A15"], {"A15": notes.questions()["A15"]}
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(notes, "questions", lambda: questions)
    monkeypatch.setattr(notes, "read", lambda: {"A15": note})
    monkeypatch.setattr("serving.browser.site.serve", lambda versions, port: print(versions, port))

    def asked(text: str, home: Path, gateway: str = "127.0.0.1:1") -> Answer:
        words = text.format(home=home, gateway=gateway).split()
        monkeypatch.setattr(sys, "argv", ["showcase", *words, "--home", str(home)])
        capfd.readouterr()
        code = 0
        with warnings.catch_warnings(), patch.dict(os.environ):
            try:
                main.main()
            except SystemExit as ended:
                code = int(ended.code or 0)
        return Answer(code, *capfd.readouterr())

    return asked


def plain(planted: Homes, text: str) -> str:
    """Without what is another at each call: the home, the moment, and how long something took."""
    text = planted.plain(text)
    text = re.sub(r"(fraud|image)-(?!2026010)\d{8}-\d{6}-\d{3}", r"\1-NEW", text)
    text = re.sub(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d", "TIME", text)
    text = re.sub(r'"seconds": [\d.]+', "SECONDS", text)
    text = re.sub(r'"fingerprint": "\w+"', "FINGERPRINT", text)  # the data's folder is in it
    return re.sub(r"\b\d+\.\d+(e-\d+)?( s\b|(?=,?\n))", "N", text)


def test_every_command_is_tried_or_says_where_it_is() -> None:
    commands = set(typer.main.get_command(main.app).commands)
    assert commands == ASKED.keys() | ELSEWHERE.keys() and not ASKED.keys() & ELSEWHERE.keys()


@pytest.mark.parametrize("text", [f"{name} {text}".strip() for name, texts in ASKED.items() for text in texts])
def test_a_command_answers_as_from_a_file(planted: Homes, gateway: str, ask: Ask, text: str) -> None:
    file, grpc = (ask(text, home, gateway) for home in (planted.file, planted.grpc))
    assert (grpc.code, plain(planted, grpc.out), plain(planted, grpc.err)) == (
        file.code,
        plain(planted, file.out),
        plain(planted, file.err),
    )
    assert file.out if file.code < 2 else file.err.startswith("error:")
    assert not list(planted.grpc.glob("metadata.[sl]*"))


@pytest.mark.parametrize("text", LOST)
def test_a_store_that_does_not_answer_is_one_sentence(planted: Homes, ask: Ask, text: str) -> None:
    answer = ask(text, planted.gone)
    said = f"error: The metadata store at grpc://127.0.0.1:{planted.port} does not answer: Connection refused. Start it"
    assert (answer.code, said in answer.err.splitlines()[-1], "Traceback" in answer.err) == (2, True, False), answer
    assert not list(planted.gone.glob("metadata.[sl]*")) and not (planted.gone / "data").exists()


@pytest.mark.parametrize("text", UNTOUCHED)
def test_what_asks_nothing_of_the_store_goes_on_without_it(planted: Homes, ask: Ask, text: str) -> None:
    text = " ".join((text, *ASKED.get(text, ())))
    answer = ask(text, planted.gone)
    assert answer.code == 0 and answer.out and not answer.err


def test_the_doctor_says_whether_the_store_answers(planted: Homes, ask: Ask, tmp_path: Path) -> None:
    found = {}
    for home in (planted.file, planted.grpc, planted.gone, tmp_path):
        told = json.loads(ask("doctor --json", home).out)
        (found[home],) = [one for one in told if one["name"] == "Metadata store"]
    assert found[planted.file] == {
        "name": "Metadata store",
        "state": "ok",
        "found": f"{planted.file / FILE}",
        "advice": "",
    }
    assert found[planted.grpc]["state"] == "ok" and found[planted.grpc]["found"].startswith("grpc://127.0.0.1:")
    assert found[planted.gone]["state"] == "missing" and "does not answer" in found[planted.gone]["advice"]
    assert found[tmp_path]["state"] == "ok" and found[tmp_path]["found"].endswith(f"{FILE}, not there yet")
    assert ask("doctor", planted.gone).code == 1


def test_a_monitor_that_watches_goes_on_when_the_store_is_back(
    planted: Homes, ask: Ask, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class OverError(Exception):
        """Ends the loop."""

    looks, waited, once = [], [], loop.once
    server = MetadataAddress.of(planted.grpc).server

    def look(*given: Any) -> Any:
        looks.append("lost")
        looks[-1] = once(*given)
        return looks[-1]

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2:
            store_address.note(planted.gone, server)
        if len(waited) == 3:
            raise OverError

    monkeypatch.setattr(loop, "once", look)
    monkeypatch.setattr(monitor_command.time, "sleep", wait)
    try:
        with pytest.raises(OverError):
            ask("monitor fraud --watch --every 7", planted.gone)
    finally:
        store_address.note(planted.gone, f"grpc://127.0.0.1:{planted.port}")
    assert looks == ["lost", "lost", (None, None)]
    assert capfd.readouterr().out.count("does not answer") == 1


@pytest.mark.parametrize(
    ("name", "began_before", "answered"),
    [("file", False, True), ("grpc", False, True), ("gone", False, False), ("gone", True, True)],
)
def test_a_gateway_begins_with_the_history_that_the_store_names(
    planted: Homes,
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    name: str,
    began_before: bool,
    answered: bool,
) -> None:
    """Without the store only a gateway that has begun before answers, from its own memory."""
    found: list[str] = []

    def announce(told: dict[str, Any], stack: Any, as_json: bool) -> None:
        found.extend(stack.gateway.scorers)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(serve, "_announce", announce)
    ignored = shutil.ignore_patterns(*([] if began_before else ["online"]))
    home = shutil.copytree(getattr(planted, name), tmp_path / "home", ignore=ignored)
    answer = ask("serve --backend 127.0.0.1:1 --port 0 --no-monitor", home)
    assert answer.code == 0, answer.err
    assert sorted(found) == (["fraud", "image"] if answered else [])
    assert ("does not answer" in caplog.text) != answered


@pytest.mark.parametrize("name", ["file", "grpc"])
def test_an_incident_has_a_copy_of_the_run_that_pushed(planted: Homes, name: str) -> None:
    home = getattr(planted, name)
    where = local_runtime(home).metadata
    with scratch.copied(Live(home), CASES["fraud"]) as copy:
        own = local_runtime(copy).metadata
        assert own.file and [run.id for run in store.runs(own)] == [RUN]
        assert store.stage_states(own, RUN) == store.stage_states(where, RUN)
        made, known = store.outputs(own, RUN), store.outputs(where, RUN)
        assert {stage: {key: one.uri for key, one in found.items()} for stage, found in made.items()} == {
            stage: {key: one.uri for key, one in found.items()} for stage, found in known.items()
        }


def test_a_benchmark_finds_the_pushed_run_and_says_if_it_cannot(planted: Homes) -> None:
    found = [benchmarks.artifacts(home, "image") for home in (planted.file, planted.grpc)]
    plain_paths = [{key: planted.plain(str(path)) for key, path in outputs.items()} for outputs, _ in found]
    assert plain_paths[0] == plain_paths[1] and plain_paths[0]["model"] == "HOME/artifacts/model"
    with pytest.raises(SystemExit, match="error: The metadata store at grpc://.* does not answer"):
        benchmarks.artifacts(planted.gone, "image")


def test_stages_of_this_machine_write_to_the_server(planted: Homes, tmp_path: Path) -> None:
    """Stages are forked from a process that has asked the server before."""
    where, home = MetadataAddress.of(planted.grpc), tmp_path / "home"
    store_address.note(home, where.server)
    shutil.copytree(planted.grpc / "digits", tmp_path / "digits")
    for folder in (tmp_path / "digits" / "span-000").iterdir():
        picture = next(folder.glob("*.png"))
        for number in range(40):  # so many that every split has some of each class
            shutil.copy(picture, folder / f"{number}.png")
    done = showcase("schema", "image", "--data", tmp_path / "digits", "--home", home)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'name: "label"' in done.stdout and 'name: "brightness"' in done.stdout
    (run_id,) = trace.run_ids(where, "schema-")
    assert {stage: state for stage, state in store.stage_states(where, run_id).items() if state != "done"} == {}
    assert not (home / FILE).exists()
