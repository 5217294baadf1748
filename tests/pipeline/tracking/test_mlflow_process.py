"""The process that records in MLflow: its answers, and when it ends."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from support.command import ROOT
from support.process import is_alive

from pipeline.tracking import mlflow_process

pytestmark = pytest.mark.system


@pytest.fixture
def run_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> Callable[..., tuple[dict[str, str], str]]:
    """Run the tracking program in this process; return its answer and its standard error."""

    def do(address: str, record: dict) -> tuple[dict[str, str], str]:
        monkeypatch.setattr(mlflow_process.os, "nice", lambda by: None)
        monkeypatch.setattr(sys, "argv", ["tracker", str(tmp_path)])
        monkeypatch.setattr(sys, "stdin", StringIO(json.dumps(record)))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        mlflow_process.main()
        output = capsys.readouterr()
        return json.loads(output.out), output.err

    return do


def test_unreachable_server_gives_a_reason_without_the_password(
    run_program: Callable[..., tuple[dict[str, str], str]],
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://user:secret@127.0.0.1:{free.getsockname()[1]}"
    answer, _ = run_program(address, {"run": "fraud-1", "experiment": "fraud"})
    assert answer["error"].startswith("the server does not answer") and "secret" not in answer["error"]


def test_output_of_mlflow_is_not_mixed_with_the_answer(
    monkeypatch, run_program: Callable[..., tuple[dict[str, str], str]]
) -> None:
    monkeypatch.setattr(mlflow_process, "open_client", lambda *_: print("View run at http://host"))
    monkeypatch.setattr(mlflow_process, "write_record", lambda *_: print("View experiment") or "id-1")
    answer, log_text = run_program("http://host", {"run": "fraud-1"})
    assert answer == {"id": "id-1"} and "View run" in log_text


def test_process_ends_when_the_run_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from pipeline.tracking import recording\n"
        "from pipeline.local.local_runtime import local_runtime\n"
        f"tracker = recording.Tracker(local_runtime(Path({str(tmp_path)!r})), Path({str(tmp_path)!r}, 'log'))\n"
        "print(tracker._process.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and is_alive(child):
        time.sleep(0.01)
    assert not is_alive(child)
    database = tmp_path / "mlflow.sqlite"
    assert not database.exists() or not database.stat().st_size  # it ended before it created the store


def test_process_does_not_end_while_it_creates_tables() -> None:
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
