"""The command line's manners: quick help, wrong words, exit codes."""

import subprocess
import sys

import pytest
from support.command import ROOT
from support.in_process import run_in_process

from pipeline.arguments import parse_settings, parse_window


@pytest.mark.system
def test_help_names_every_command_and_imports_nothing_heavy():
    probe = (
        "import sys; sys.argv = ['showcase', '--help']\nfrom cli.main import main\ntry:\n    main()\n"
        "except SystemExit:\n    pass\nprint(sorted({'tensorflow', 'tfx', 'numpy', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr
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
        assert f" {command} " in done.stdout


@pytest.mark.parametrize(
    ("text", "bounds"), [(":", (-1, -1)), ("3:", (3, -1)), (":9", (-1, 9)), ("3:9", (3, 9)), ("0:0", (0, 0))]
)
def test_a_window_reads_as_first_and_last(text, bounds):
    assert parse_window(text) == bounds


@pytest.mark.parametrize("text", ["", "3", "a:b", "3:-1", "1:2:3"])
def test_a_window_that_cannot_be_read_says_how_one_looks(text):
    with pytest.raises(ValueError, match="FIRST:LAST"):
        parse_window(text)


def test_settings_are_pairs():
    assert parse_settings(["a=1", "b=x=y"]) == {"a": "1", "b": "x=y"}
    with pytest.raises(ValueError, match="NAME=VALUE"):
        parse_settings(["a"])


def test_status_of_an_empty_home_says_how_to_begin_and_makes_no_store(tmp_path):
    done = run_in_process("status", "--home", tmp_path / "nothing")
    assert done.returncode == 0 and "showcase run fraud" in done.stdout
    assert not (tmp_path / "nothing").exists()


def test_generate_writes_spans_and_refuses_a_folder_in_use(tmp_path):
    words = ("generate", "fraud", "--rows", 500, "--days", 3, "--out", tmp_path / "spans")
    assert run_in_process(*words).returncode == 0
    assert len(list((tmp_path / "spans").glob("span-*/transactions.parquet"))) == 3
    again = run_in_process(*words)
    assert again.returncode == 2 and "not empty" in again.stderr
    assert run_in_process("generate", "image", "--out", tmp_path / "pictures").returncode == 2
