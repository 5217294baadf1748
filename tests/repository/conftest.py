"""Stub machines for the tests of make and .ci/run."""

from pathlib import Path

import pytest
from support.stub_machine import Machine


@pytest.fixture
def bare(tmp_path: Path) -> Machine:
    """A machine without uv, whose Python 3.11 has no venv and no pip."""
    machine = Machine(tmp_path)
    machine.add("python3.11", '[ "$1" = -c ] && echo "$0" && exit; exit 1')
    return machine


@pytest.fixture
def ready(bare: Machine) -> Machine:
    """A machine that is set up; the file ``fail`` in its checkout names a command that fails."""
    fails = '[ ! -e fail ] || case "$(cat fail)" in "{0}"|"{0} $1") exit 1 ;; esac'
    bare.add("uv", "mkdir -p .venv")
    bare.add("npm", "mkdir -p serving/browser/node_modules")
    for name in ("python", "ruff", "mypy", "lint-imports", "showcase"):
        bare.add(name, fails.format(name), bare.checkout / ".venv" / "bin")
    package = bare.checkout / "serving" / "browser" / "package-lock.json"
    package.parent.mkdir(parents=True)
    package.touch()
    return bare
