"""The command line: fast help, invalid arguments, exit codes."""

import subprocess
import sys

import pytest
from support.command import ROOT
from support.in_process import run_in_process


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
