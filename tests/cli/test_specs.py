"""The commands on specs: what they lack and what they refuse is one sentence, before anything heavy is imported."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.command import ROOT
from support.in_process import run_in_process

from cli import specs


def test_without_kubeflow_the_command_that_brings_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kfp.kubernetes", None)
    with pytest.raises(ValueError, match="uv sync --group kubeflow"):
        specs.compile_("fraud", tmp_path / "a.yaml", None, False, {})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("compile", "frud", "-o", "a.yaml"), "no use case 'frud'"),
        (("compile", "fraud", "-o", "a.yaml", "--cluster", "nowhere.toml"), "nowhere.toml"),
        (("compile", "fraud", "-o", "a.yaml", "--spans", "x"), "FIRST:LAST"),
        (("compile", "fraud", "-o", "a.txt"), "has to end in .yaml"),
        (("submit", "fraud", "--host", "http://x", "--set", "epochs"), "NAME=VALUE"),
    ],
)
def test_words_that_cannot_be_right_are_one_sentence(words: tuple[str, ...], said: str) -> None:
    done = run_in_process(*words)
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.system
def test_a_refused_file_name_ends_the_program_before_it_imports_tfx() -> None:
    program = (
        "import sys; from cli.main import main\ntry:\n    main()\n"
        "finally:\n    print(sorted({'tensorflow', 'tfx', 'apache_beam'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, "compile", "fraud", "-o", "a.txt"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "[]\n") and "Traceback" not in done.stderr
