"""The page on deploying: every command in it exists and takes its words, every folder and object that it names is there."""

import re
import shlex
import subprocess
from functools import cache

import pytest
from support.manifests import FOLDER, check_words, rendered, tool

PAGE = FOLDER.parent / "docs" / "deploying.md"
BLOCK = re.compile(r"^( *)```\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
COMMANDS = [line.strip() for _, text in BLOCK.findall(PAGE.read_text()) for line in text.splitlines() if line.strip()]
NAMED = {"service", "statefulset", "deployment", "job"}
ELSEWHERE = {"service/ml-pipeline-ui", "service/flink-rest"}  # Kubeflow's own, and what Flink's operator makes


def check(line: str) -> None:
    """Raises an error unless the command exists and takes its words."""
    program, *rest = shlex.split(line)
    if program == "showcase":
        check_words([program, *rest])
    elif program == "kubectl":
        _kubectl(rest)
    elif program.startswith("kubernetes/"):
        assert (FOLDER.parent / program).is_file(), program
    else:
        assert program in ("docker", "kind", "cp", "curl"), program
    for word in rest:
        if word.startswith("kubernetes/"):
            assert (FOLDER.parent / word).exists(), word


def _kubectl(rest: list[str]) -> None:
    """kubectl's own help has to know the command and its flags."""
    words = rest[: rest.index("--")] if "--" in rest else rest
    if "--" in rest:
        check_words(rest[rest.index("--") + 1 :])
    verbs = [word for word in words if re.fullmatch(r"[a-z-]+", word) and not word.startswith("-")]
    verbs = [word for word in verbs if words[words.index(word) - 1] != "--namespace"]
    depth = {"rollout": 2, "create": 3}.get(verbs[0], 1)
    known = _help(*verbs[:depth], "--help") + _help("options")
    for flag in (word.partition("=")[0] for word in words if word.startswith("-")):
        assert re.search(rf"(^|\s){re.escape(flag)}[=,: ]", known), f"{flag} of kubectl {verbs[:depth]}"
    for word in words:
        kind, slash, name = word.partition("/")
        if slash and kind in NAMED and word not in ELSEWHERE:
            there = {(one["kind"].lower(), one["metadata"]["name"]) for one in _all()}
            assert (kind, name) in there, word


@cache
def _help(*words: str) -> str:
    done = subprocess.run([tool("kubectl"), *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def _all() -> list[dict]:
    return [one for target in ("base", "training/multiworker", "flink") for one in rendered(target)]


@pytest.mark.system
@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_exists(line: str) -> None:
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
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str) -> None:
    with pytest.raises((AssertionError, ValueError)):
        check(line)


def test_the_page_goes_from_an_image_to_an_answer_in_order() -> None:
    text = PAGE.read_text().partition("## On one node")[2]
    steps = ("docker build", "kubectl apply -k", "showcase submit", "status deployment/model-server", "/v1/fraud/score")
    places = [text.index(word) for word in steps]
    assert places == sorted(places)
    assert re.findall(r"^\d+\.", text, re.MULTILINE)[:5] == ["1.", "2.", "3.", "4.", "5."]
