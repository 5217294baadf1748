"""The page on deploying: its commands exist and accept their arguments, and its folders and objects exist."""

import re
import shlex
import subprocess
from functools import cache
from pathlib import Path

import pytest
from support.manifests import FOLDER, check_command_line, render_manifests, require_tool

from pipeline import home

PAGE = FOLDER.parent / "docs" / "deploying.md"
BLOCK = re.compile(r"^( *)```\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
COMMANDS = [line.strip() for _, text in BLOCK.findall(PAGE.read_text()) for line in text.splitlines() if line.strip()]
KINDS = {"service", "statefulset", "deployment", "job"}
EXTERNAL = {"service/ml-pipeline-ui", "service/flink-rest"}  # services of Kubeflow and of Flink's operator


def check(line: str) -> None:
    """Check that a command exists and accepts its arguments."""
    program, *rest = shlex.split(line)
    if program in ("showcase", "showcase-model-server"):
        check_command_line([program, *rest])
    elif program == "kubectl":
        _check_kubectl(rest)
    elif program == "make":
        assert re.search(rf"^{re.escape(rest[0])}:.*## ", (FOLDER.parent / "Makefile").read_text(), re.MULTILINE), rest
    elif program.startswith("kubernetes/"):
        assert (FOLDER.parent / program).is_file(), program
    else:
        assert program in ("docker", "kind", "cp", "curl"), program
    for word in rest:
        if word.startswith("kubernetes/"):
            assert (FOLDER.parent / word).exists(), word


def _check_kubectl(rest: list[str]) -> None:
    """Check the command and its flags against kubectl's help."""
    words = rest[: rest.index("--")] if "--" in rest else rest
    if "--" in rest:
        check_command_line(rest[rest.index("--") + 1 :])
    verbs = [word for word in words if re.fullmatch(r"[a-z-]+", word) and not word.startswith("-")]
    verbs = [word for word in verbs if words[words.index(word) - 1] != "--namespace"]
    depth = {"rollout": 2, "create": 3}.get(verbs[0], 1)
    help_text = _read_help(*verbs[:depth], "--help") + _read_help("options")
    for flag in (word.partition("=")[0] for word in words if word.startswith("-")):
        assert re.search(rf"(^|\s){re.escape(flag)}[=,: ]", help_text), f"{flag} of kubectl {verbs[:depth]}"
    for word in words:
        kind, slash, name = word.partition("/")
        if slash and kind in KINDS and word not in EXTERNAL:
            objects = {(document["kind"].lower(), document["metadata"]["name"]) for document in _render_all()}
            assert (kind, name) in objects, word


@cache
def _read_help(*words: str) -> str:
    result = subprocess.run([require_tool("kubectl"), *words], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@cache
def _render_all() -> list[dict]:
    return [document for target in ("base", "training/multiworker", "flink") for document in render_manifests(target)]


@pytest.mark.system
@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_the_page_exists(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "open_home", Path)  # the page's bucket does not exist
    check(line)


@pytest.mark.system
@pytest.mark.parametrize(
    "line",
    [
        "kubectl aply -k kubernetes/overlays/laptop",
        "kubectl apply --kustomise kubernetes/overlays/laptop",
        "kubectl apply -k kubernetes/overlays/lapotp",
        "kubectl --namespace kubeflow rollout status deployment/modelserver",
        "showcase submti fraud",
        "showcase submit fraud --hots http://x",
        "kubernetes/canry fraud 2",
        "helm install showcase",
        "make clutser",
    ],
)
def test_an_invalid_command_is_detected(line: str) -> None:
    with pytest.raises((AssertionError, ValueError)):
        check(line)


def test_page_has_the_steps_from_image_to_request_in_order() -> None:
    text = PAGE.read_text().partition("## On one node")[2]
    steps = ("docker build", "kubectl apply -k", "showcase submit", "status deployment/model-server", "/v1/fraud/score")
    positions = [text.index(word) for word in steps]
    assert positions == sorted(positions)
    assert re.findall(r"^\d+\.", text, re.MULTILINE)[:5] == ["1.", "2.", "3.", "4.", "5."]
