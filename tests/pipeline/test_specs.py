"""The commands on specs: what they lack and what they refuse is one sentence, before anything heavy is imported."""

import sys
from pathlib import Path

import pytest
from support.command import showcase

from pipeline import specs


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
    done = showcase(*words)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
