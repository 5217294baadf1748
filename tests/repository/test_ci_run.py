"""The script .ci/run on a stub machine: the targets and packages that it asks for."""

import os
import shutil

import pytest
from support.stub_machine import MAKE, REPOSITORY, Machine

pytestmark = [pytest.mark.system, pytest.mark.skipif(MAKE is None, reason="make is not installed")]

SYSTEM = ("uv", "g++", "javac", "mvn", "npm", "promtool", "kubectl", "redis-server", "chromium")


@pytest.fixture
def continuous(ready: Machine) -> Machine:
    """A machine with all system packages, and a make that only logs; the file ``fail`` names a target that fails."""
    (ready.checkout / ".ci").mkdir()
    shutil.copy(REPOSITORY / ".ci" / "run", ready.checkout / ".ci")
    for name in SYSTEM:
        ready.add(name)
    ready.add("apt-get")
    ready.add("make", '[ ! -e fail ] || [ "$(cat fail)" != "$1" ]')
    return ready


def targets(machine: Machine) -> list[str]:
    """Return the targets of the calls of make."""
    return [call.split()[1] for call in machine.calls("make") if call != "make --version"]


def test_ci_lints_then_runs_every_test_once(continuous: Machine) -> None:
    result = continuous.run(".ci/run")
    assert result.returncode == 0, result.stderr
    assert targets(continuous) == ["flink", "lint", "test-all"]
    assert continuous.calls("apt-get") == []


@pytest.mark.parametrize("fault", ["flink", "lint", "test-all"])
def test_ci_fails_with_each_of_its_steps(continuous: Machine, fault: str) -> None:
    (continuous.checkout / "fail").write_text(fault)
    assert continuous.run(".ci/run").returncode != 0
    assert targets(continuous)[-1] == fault


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("lint", ["lint"]),
        ("unit", ["test-unit"]),
        ("pipelines", ["flink", "test-pipelines"]),
        ("serving", ["test-serving"]),
        ("deploy", ["test-deploy"]),
    ],
)
def test_ci_runs_one_part_and_fails_with_it(continuous: Machine, part: str, expected: list[str]) -> None:
    result = continuous.run(".ci/run", part)
    assert result.returncode == 0, result.stderr
    assert targets(continuous) == expected
    (continuous.checkout / "fail").write_text(expected[-1])
    assert continuous.run(".ci/run", part).returncode != 0


@pytest.mark.parametrize("words", [("everything",), ("lint", "unit")])
def test_ci_refuses_an_unknown_part_before_it_does_anything(continuous: Machine, words: tuple[str, ...]) -> None:
    result = continuous.run(".ci/run", *words)
    assert result.returncode == 2 and "use lint, unit, pipelines, serving or deploy" in result.stderr
    assert continuous.calls("make", "apt-get") == []


def test_ci_names_or_installs_a_package_that_is_missing(continuous: Machine) -> None:
    (continuous.programs / "promtool").unlink()
    result = continuous.run(".ci/run")
    assert result.returncode == 0, result.stderr
    assert "prometheus" in result.stdout + result.stderr
    assert any("prometheus" in call for call in continuous.calls("apt-get")) == (os.geteuid() == 0)
