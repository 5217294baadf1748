"""The scripts for a canary and a way back, with a kubectl that runs what it is given on this machine."""

import os
import subprocess
from pathlib import Path

import pytest
from support.manifests import FOLDER, check_words

pytestmark = pytest.mark.system

KUBECTL = """#!/bin/sh
echo "$@" >> kubectl.log
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""
SHOWCASE = """#!/bin/sh
echo "$@" >> showcase.log
"""
# Each look at the metrics is a file of its own, in order.
PYTHON = """#!/bin/sh
n=$(cat looks 2>/dev/null || echo 0)
echo $((n + 1)) > looks
cat "metrics-$n"
"""


def exposition(failed: int, answered: int) -> str:
    """The gateway's metrics after so many answers; another case fails always, and is nobody's business."""
    return (
        "# TYPE gateway_requests_total counter\n"
        f'gateway_requests_total{{case="fraud",status="200"}} {answered}.0\n'
        f'gateway_requests_total{{case="fraud",status="503"}} {failed}.0\n'
        f'gateway_requests_total{{case="fraud",status="422"}} 9.0\n'
        f'gateway_requests_total{{case="image",status="503"}} {answered}.0\n'
    )


Done = tuple[subprocess.CompletedProcess, list[str]]


def run(folder: Path, before: tuple[int, int], after: tuple[int, int], *words: str) -> Done:
    """The canary script between two looks at the metrics; also what `showcase` was told."""
    for name, text in (("kubectl", KUBECTL), ("showcase", SHOWCASE), ("python", PYTHON)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    for number, counts in enumerate((before, after)):
        (folder / f"metrics-{number}").write_text(exposition(*counts))
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(
        [str(FOLDER / "canary"), *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )
    log = folder / "showcase.log"
    return done, log.read_text().splitlines() if log.exists() else []


def test_a_version_that_does_not_fail_is_promoted(tmp_path: Path) -> None:
    done, told = run(tmp_path, (5, 100), (6, 300), "fraud", "3", "0.2", "0")
    assert done.returncode == 0, done.stderr
    assert told == ["promote fraud 3 --canary 0.2 --home /showcase", "promote fraud 3 --home /showcase"]
    assert "1 of 201 requests failed" in done.stdout
    first = (tmp_path / "kubectl.log").read_text().splitlines()[0]
    assert first.startswith("--namespace showcase exec gateway-0 -- ")


@pytest.mark.parametrize(("after", "said"), [((9, 300), "4 of 204 requests failed"), ((5, 100), "nothing was asked")])
def test_one_that_fails_or_is_not_asked_is_rolled_back(tmp_path: Path, after: tuple[int, int], said: str) -> None:
    done, told = run(tmp_path, (5, 100), after, "fraud", "3", "0.2", "0")
    assert done.returncode == 1 and said in done.stderr
    assert told[-1] == "rollback fraud --home /showcase"


def test_what_the_scripts_tell_showcase_is_what_it_takes(tmp_path: Path) -> None:
    _, good = run(tmp_path, (0, 0), (0, 9), "fraud", "3", "0.2", "0")
    (tmp_path / "looks").unlink()
    _, bad = run(tmp_path, (0, 0), (9, 9), "fraud", "3", "0.2", "0")
    for line in {*good, *bad}:
        check_words(["showcase", *line.split()])


def test_without_a_version_it_says_how_to_be_used(tmp_path: Path) -> None:
    done, told = run(tmp_path, (0, 0), (0, 0), "fraud")
    assert done.returncode != 0 and "usage: canary CASE VERSION" in done.stderr and told == []


@pytest.mark.parametrize("name", ["canary", "rollback"])
def test_the_scripts_parse_and_may_be_run(name: str) -> None:
    assert subprocess.run(["bash", "-n", str(FOLDER / name)]).returncode == 0
    assert os.access(FOLDER / name, os.X_OK)
