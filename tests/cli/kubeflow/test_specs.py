"""Commands on Kubeflow specs: invalid arguments and missing packages give one sentence before a heavy import."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.command import ROOT
from support.in_process import run_in_process

from cli.kubeflow import specs


def test_missing_kubeflow_error_names_the_install_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kfp.kubernetes", None)
    with pytest.raises(ValueError, match="uv sync --group kubeflow"):
        specs.compile_("fraud", tmp_path / "a.yaml", None, False, {})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("compile", "frud", "-o", "a.yaml"), "no use case 'frud'"),
        (("compile", "fraud", "-o", "a.yaml", "--cluster", "nowhere.toml"), "nowhere.toml"),
        (("compile", "fraud", "-o", "a.yaml", "--spans", "x"), "FIRST:LAST"),
        (("compile", "fraud", "-o", "a.txt"), "has to end in .yaml"),
        (("submit", "fraud", "--host", "http://x", "--set", "epochs"), "NAME=VALUE"),
    ],
)
def test_invalid_arguments_are_reported_in_one_sentence(words: tuple[str, ...], message: str) -> None:
    result = run_in_process(*words)
    assert result.returncode == 2 and message in result.stderr and len(result.stderr.splitlines()) == 1


@pytest.mark.system
def test_invalid_file_name_is_refused_before_tfx_is_imported() -> None:
    program = (
        "import sys; from cli.main import main\ntry:\n    main()\n"
        "finally:\n    print(sorted({'tensorflow', 'tfx', 'apache_beam'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, "compile", "fraud", "-o", "a.txt"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (result.returncode, result.stdout) == (2, "[]\n") and "Traceback" not in result.stderr
