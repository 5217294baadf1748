"""Brackets in paths and messages, and a terminal without Unicode: everything is printed, nothing crashes."""

import io
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
from support.command import ROOT
from support.in_process import run_in_process
from support.planted_home import plant_run

from cli import commands
from pipeline import session
from pipeline.local.progress import Progress, ProgressTable
from pipeline.plan import Plan
from pipeline.run import Run
from pipeline.terminal import make_console
from tour.demo.report import DemoReport

REASON = "Trainer: no column '[/bold]' in [red]data[/x], only :warning: [amount]"
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose path looks like markup, with a failed run whose reason does too."""
    home = tmp_path / "we[ir]d[" / "bold]"
    plant_run(home, state="failed", reason=REASON)
    return home


@pytest.mark.parametrize(
    "command", ["status", "status --json", "runs", "runs --json", "dvc image", "serve image", "traffic fraud"]
)
def test_command_on_a_home_with_brackets_prints_them(home: Path, command: str) -> None:
    result = run_in_process(*command.split(), "--home", home)
    text = (result.stdout + result.stderr).replace("\n", "")
    assert result.returncode in (0, 2)
    assert (REASON in text) == command.startswith("status")
    assert command.startswith(("status", "runs --json", "dvc")) or str(home) in text, text


@pytest.mark.parametrize(
    "words",
    [
        ("run", "[/x]"),
        ("[/x]",),
        ("run", "fraud", "[/x]"),
        ("run", "fraud", "--data", "[/x]"),
        ("run", "fraud", "--set", "[/x]=1"),
        ("run", "image", "--spans", "[/x]"),
        ("ask", "[/x]"),
        ("promote", "fraud", "[/x]"),
        ("break", "[/x]"),
        ("runs", "[/x]"),
        ("traffic", "fraud", "--gateway", "[/x]"),
        ("generate", "fraud", "--out", "[/x]", "--drift", "[/x]"),
    ],
)
def test_wrong_argument_with_brackets_is_reported_literally(tmp_path: Path, words: tuple[str, ...]) -> None:
    home = () if words[0] in ("generate", "[/x]") else ("--home", tmp_path)
    result = run_in_process(*words, *home)
    assert result.returncode == 2 and "[/x]" in result.stderr, result.stderr


def test_failed_run_with_brackets_in_its_reason_is_printed(home: Path) -> None:
    def execute(plan: Plan, runtime: object, fresh: bool, report: object) -> Run:
        return Run("image-1", "image", "failed", REASON, "f", {"comparison": REASON, "untracked": REASON})

    with patch.object(session, "execute", execute):
        result = run_in_process("run", "image", "--home", home)
    assert result.returncode == 1
    assert result.stdout.count(REASON) == 3 and f"data {home}/data/digits" in result.stdout


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_tables_show_brackets_and_replace_what_the_terminal_cannot_encode(encoding: str) -> None:
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, encoding, errors="backslashreplace")
    console = make_console(stream, width=150)
    console._force_terminal = True
    with ProgressTable(console) as table:
        table.report({"Trainer": Progress("running", 1.0, message=f"{REASON} é")})
    report = DemoReport(console, seconds={f"{REASON} é": 1.0})
    report.summary |= {"served": {"fraud": 1}, "drift": {"fraud": {"line": REASON}}}
    with report.time_part(REASON):
        report.print_line(REASON)
    report.print_summary(False)
    stream.flush()
    text = buffer.getvalue().decode(encoding)
    assert text.count(REASON) >= 5 and ("\\xe9" if encoding == "ascii" else "é") in text


@pytest.mark.system
@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "run --help",
        "status --home {home}",
        "runs --home {home}",
        "doctor --home {home}",
        "ask A15",
        "ask",
        "break",
    ],
)
def test_command_works_in_a_locale_without_unicode(tmp_path: Path, command: str) -> None:
    home = tmp_path / "home-é"
    plant_run(home, reason="version 1 → é")
    words = [word.format(home=home) for word in command.split()]
    result = subprocess.run(
        [sys.executable, "-m", "cli.main", *words], capture_output=True, cwd=ROOT, env={**os.environ, **ASCII}
    )
    assert (result.returncode, result.stderr) == (0, b"") and result.stdout.isascii()
    if command.startswith("status"):
        assert b"version 1 \\u2192 \\xe9" in result.stdout


def test_generated_spans_are_named_literally(tmp_path: Path) -> None:
    out = tmp_path / "[red]spans[" / "red]"
    result = run_in_process("generate", "fraud", "--rows", 200, "--days", 2, "--out", out)
    assert result.returncode == 0 and result.stdout.startswith(f"{out}: 2 days")
    assert "make_progress_bar" in commands.generate.__code__.co_names
