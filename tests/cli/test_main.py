"""The command line: fast help, invalid arguments, exit codes."""

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain

import pytest
from support.command import ROOT
from support.in_process import run_in_process

from cli.main import describe_error


@pytest.mark.system
def test_help_names_every_command_and_imports_nothing_heavy():
    probe = (
        "import sys; sys.argv = ['showcase', '--help']\nfrom cli.main import main\ntry:\n    main()\n"
        "except SystemExit:\n    pass\nprint(sorted({'tensorflow', 'tfx', 'numpy', 'pyarrow'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.splitlines()[-1] == "[]", result.stdout + result.stderr
    for command in (
        "run",
        "refresh",
        "runs",
        "neighbours",
        "dvc",
        "status",
        "demo",
        "generate",
        "schema",
        "doctor",
        "ask",
        "serve",
        "traffic",
        "promote",
        "rollback",
        "compile",
        "rehearse",
        "submit",
    ):
        assert f" {command} " in result.stdout


def test_status_of_an_empty_home_names_the_run_command_and_creates_no_store(tmp_path):
    result = run_in_process("status", "--home", tmp_path / "nothing")
    assert result.returncode == 0 and "showcase run fraud" in result.stdout
    assert not (tmp_path / "nothing").exists()


def test_generate_writes_spans_and_refuses_a_folder_that_is_not_empty(tmp_path):
    command = ("generate", "fraud", "--rows", 500, "--days", 3, "--out", tmp_path / "spans")
    assert run_in_process(*command).returncode == 0
    assert len(list((tmp_path / "spans").glob("span-*/transactions.parquet"))) == 3
    again = run_in_process(*command)
    assert again.returncode == 2 and "not empty" in again.stderr
    assert run_in_process("generate", "image", "--out", tmp_path / "pictures").returncode == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "fraud", "--home", "FILE"), "is a file"),
        (("status", "--home", "FILE"), "is a file"),
        (("status", "", "--home", "FOLDER"), "There is no use case ''"),
        (("serve", "--port", "99999", "--home", "FOLDER"), "65535"),
        (("serve", "--rest-port", "99999", "--home", "FOLDER"), "65535"),
        (("monitor", "fraud", "--watch", "--port", "99999", "--home", "FOLDER"), "65535"),
        (("promote", "fraud", "latest", "--home", "FOLDER"), "has no version"),
        (
            ("generate", "fraud", "--rows", "10", "--days", "2", "--out", "FILE"),
            "FILE cannot be read or written: Not a",
        ),
        (
            ("runs", "--mlflow", "--tracking", "http://127.0.0.1:1", "--home", "FOLDER"),
            "tracker at http://127.0.0.1:1 cannot be read",
        ),
        (
            ("runs", "--mlflow", "--tracking", "nonsense://x", "--home", "FOLDER"),
            "tracker at nonsense://x cannot be read",
        ),
        (("run", "fraud", "--set", "=3", "--home", "FOLDER"), "--set takes NAME=VALUE, not '=3'"),
        (("traffic", "fraud", "--gateway", "127.0.0.1:99999"), "--gateway takes HOST:PORT with a port from 1 to 65535"),
        (("serve", "--backend", "nope", "--wait", "--home", "FOLDER"), "--backend takes HOST:PORT"),
        (("dvc", "", "--home", "FOLDER"), "The name of the folder is empty"),
        (("compile", "fraud", "--out", "FOLDER/none/a.yaml"), "There is no folder FOLDER/none to write a.yaml to"),
        (("submit", "fraud", "--host", "nonsense"), "--host takes a URL"),
        (("submit", "fraud", "--host", "http:///x"), "--host takes a URL"),
        (("submit", "fraud", "--host", "http://h", "--every", "daily"), "--every takes six fields"),
    ],
)
def test_wrong_argument_is_reported_without_a_traceback(tmp_path, words, message):
    (tmp_path / "FILE").write_text("x")
    (tmp_path / "FOLDER").mkdir()
    paths = {name: str(tmp_path / name) for name in ("FILE", "FOLDER")}
    words = [word.replace("FOLDER/", f"{tmp_path}/FOLDER/") for word in words]
    result = run_in_process(*(paths.get(word, word) for word in words))
    text = " ".join(result.stderr.replace(str(tmp_path) + "/", "").replace("│", "").split())
    assert result.returncode == 2 and message in text, result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--data", ""), "--data is empty"),
        (("--data", "nowhere"), "There is no folder"),
        (("--spans", "5:2"), "--spans 5:2 ends before it begins"),
        (("--set", "epochs=many"), "takes a whole number"),
        (("--strategy", "none-such"), "Setting 'strategy'"),
        (("--schema", "nowhere.pbtxt"), "There is no schema nowhere.pbtxt"),
        (("--schema", "README.md"), "README.md is not a schema"),
        (("--runner", "none-such"), "none-such"),
    ],
    ids=lambda value: value[0].strip("-") if isinstance(value, tuple) else "",
)
@pytest.mark.parametrize("command", ["run", "check", "refresh"])
def test_arguments_are_checked_before_data_is_generated(tmp_path, monkeypatch, command, words, message):
    from models.fraud.generator import span_generator

    monkeypatch.setattr(span_generator, "generate", lambda *arguments, **options: pytest.fail("data is generated"))
    if command == "check" and words[0] not in ("--data", "--spans", "--set"):
        pytest.skip("check does not have this option")
    if command == "refresh" and words[0] != "--spans":
        pytest.skip("without a served model there is nothing else to check")
    result = run_in_process(command, "fraud", *words, "--home", tmp_path / "home")
    assert result.returncode == 2 and message in result.stderr and ".." not in result.stderr, result.stderr
    assert len(result.stderr.splitlines()) == 1 and not (tmp_path / "home" / "data").exists()


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.system
@pytest.mark.parametrize("option", ["--port", "--rest-port", "--grpc-port"])
def test_address_in_use_is_named_with_the_remedy(tmp_path, taken_port, option):
    ports = {"--port": 0, "--rest-port": -1, "--grpc-port": -1} | {option: taken_port}
    result = run_in_process("serve", "--wait", "--home", tmp_path, *chain.from_iterable(ports.items()))
    assert result.returncode == 2 and f"127.0.0.1:{taken_port}" in result.stderr, result.stderr
    assert "choose another port (0: a free one)" in result.stderr and "Errno" not in result.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "nope.invalid"])
def test_gateway_that_does_not_answer_is_named_with_the_remedy(tmp_path, host):
    run_in_process("generate", "fraud", "--rows", 100, "--days", 5, "--out", tmp_path / "spans")
    result = run_in_process("traffic", "fraud", "--gateway", f"{host}:1", "--data", tmp_path / "spans")
    assert result.returncode == 2 and f"No server answers at {host}:1: " in result.stderr, result.stderr
    assert len(result.stderr.splitlines()) == 1 and "Errno" not in result.stderr


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.EROFS, "copy"), (errno.EACCES, "permission"), (errno.ENOSPC, "space"), (errno.EIO, "")],
)
def test_error_of_the_operating_system_has_a_remedy(number, remedy):
    message = describe_error(OSError(number, os.strerror(number), "/home/x"))
    assert message.startswith(f"/home/x cannot be read or written: {os.strerror(number)}.") and remedy in message
