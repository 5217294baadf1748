"""The scripts for canary and rollback, with a fake kubectl that runs commands on this machine."""

import os
import subprocess
from pathlib import Path

import pytest
from support.manifests import FOLDER, check_command_line

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
# Each request of the metrics returns the next file.
PYTHON = """#!/bin/sh
n=$(cat looks 2>/dev/null || echo 0)
echo $((n + 1)) > looks
cat "metrics-$n"
"""


def exposition(failed: int, answered: int) -> str:
    """Return the gateway's metrics after that many responses; another case always fails, which must not matter."""
    return (
        "# TYPE gateway_requests_total counter\n"
        f'gateway_requests_total{{case="fraud",status="200"}} {answered}.0\n'
        f'gateway_requests_total{{case="fraud",status="503"}} {failed}.0\n'
        f'gateway_requests_total{{case="fraud",status="422"}} 9.0\n'
        f'gateway_requests_total{{case="image",status="503"}} {answered}.0\n'
    )


Done = tuple[subprocess.CompletedProcess, list[str]]


def run(folder: Path, first: tuple[int, int], second: tuple[int, int], *words: str) -> Done:
    """Run the canary script with metrics before and after; return its result and the commands of `showcase`."""
    for name, text in (("kubectl", KUBECTL), ("showcase", SHOWCASE), ("python", PYTHON)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    for number, counts in enumerate((first, second)):
        (folder / f"metrics-{number}").write_text(exposition(*counts))
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    result = subprocess.run(
        [str(FOLDER / "canary"), *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )
    log = folder / "showcase.log"
    return result, log.read_text().splitlines() if log.exists() else []


def test_a_version_without_errors_is_promoted(tmp_path: Path) -> None:
    result, commands = run(tmp_path, (5, 100), (6, 300), "fraud", "3", "0.2", "0")
    assert result.returncode == 0, result.stderr
    assert commands == ["promote fraud 3 --canary 0.2 --home /showcase", "promote fraud 3 --home /showcase"]
    assert "1 of 201 requests failed" in result.stdout
    first = (tmp_path / "kubectl.log").read_text().splitlines()[0]
    assert first.startswith("--namespace showcase exec gateway-0 -- ")


@pytest.mark.parametrize(
    ("after", "message"), [((9, 300), "4 of 204 requests failed"), ((5, 100), "nothing was asked")]
)
def test_a_version_with_errors_or_without_requests_is_rolled_back(
    tmp_path: Path, after: tuple[int, int], message: str
) -> None:
    result, commands = run(tmp_path, (5, 100), after, "fraud", "3", "0.2", "0")
    assert result.returncode == 1 and message in result.stderr
    assert commands[-1] == "rollback fraud --home /showcase"


def test_commands_of_the_scripts_are_valid(tmp_path: Path) -> None:
    _, good = run(tmp_path, (0, 0), (0, 9), "fraud", "3", "0.2", "0")
    (tmp_path / "looks").unlink()
    _, bad = run(tmp_path, (0, 0), (9, 9), "fraud", "3", "0.2", "0")
    for line in {*good, *bad}:
        check_command_line(["showcase", *line.split()])


def test_without_a_version_the_usage_is_printed(tmp_path: Path) -> None:
    result, commands = run(tmp_path, (0, 0), (0, 0), "fraud")
    assert result.returncode != 0 and "usage: canary CASE VERSION" in result.stderr and commands == []


@pytest.mark.parametrize("name", ["canary", "rollback"])
def test_scripts_parse_and_are_executable(name: str) -> None:
    assert subprocess.run(["bash", "-n", str(FOLDER / name)]).returncode == 0
    assert os.access(FOLDER / name, os.X_OK)
