"""The set-up: what make does on machines that lack something, and what the repository may not hold."""

import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from support.order import FIRST

REPOSITORY = Path(__file__).parents[2]
TARGETS = ("setup", "demo", "test", "test-all", "lint", "clean")
BASICS = ("sh", "uname", "ls", "head", "rm", "touch", "mkdir", "cat", "chmod")
# Put together, so that this file does not hold them.
HOSTS = ("pypi" + ".org", "python" + "hosted.org", "npm" + "js.org", "maven" + ".org", "maven.apache" + ".org")
PLACES = ("/work" + "/main", "/work" + "/shared", "/.py" + "env/", "/ro" + "ot/", str(REPOSITORY) + "/")
MAKE = shutil.which("make")

pytestmark = pytest.mark.skipif(MAKE is None, reason="make is not installed")


def make(folder: Path, *words: str, path: Path | None = None) -> subprocess.CompletedProcess:
    """Runs make in ``folder`` with nothing but PATH in its environment, so that an outer make has no say."""
    environment = {"PATH": str(path) if path else os.environ["PATH"]}
    command = [MAKE, "-C", str(folder), *words]
    return subprocess.run(command, check=False, env=environment, capture_output=True, text=True)


def script(path: Path, text: str) -> None:
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)


@pytest.fixture
def machine(tmp_path):
    """A checkout, and a PATH with a few basics and a Python 3.11 that makes no venv and has no pip."""
    folder, programs = tmp_path / "checkout", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    for name in ("Makefile", "pyproject.toml", "uv.lock"):
        shutil.copy(REPOSITORY / name, folder)
    for name in BASICS:
        (programs / name).symlink_to(shutil.which(name))
    script(programs / "python3.11", '[ "$1" = -c ] && echo "$0"\n')
    return folder, programs


def fake_uv(path: Path) -> None:
    script(path, 'echo "$@" >> uv.log; mkdir -p .venv/bin\n')


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_parses(target):
    done = make(REPOSITORY, "-n", target)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("demo", ".venv/bin/showcase demo --headless"),
        ("test", '.venv/bin/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "not slow" --headless'),
        (
            "test-all",
            '.venv/bin/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "" --durations 25 --headless',
        ),
    ],
)
def test_arguments_pass_through(target, command):
    assert command in make(REPOSITORY, "-n", target, "ARGS=--headless").stdout


def test_the_files_that_are_run_first_are_there():
    assert all((REPOSITORY / "tests" / name).is_file() for name in FIRST)


def test_uv_on_the_path_syncs_once_and_again_when_the_lock_changes(machine):
    folder, programs = machine
    fake_uv(programs / "uv")
    for _ in range(2):
        assert make(folder, "setup", path=programs).returncode == 0
    assert len((folder / "uv.log").read_text().splitlines()) == 1
    assert "sync --frozen" in (folder / "uv.log").read_text()
    later = (folder / ".venv" / ".synced").stat().st_mtime + 5
    os.utime(folder / "uv.lock", (later, later))
    make(folder, "setup", path=programs)
    assert len((folder / "uv.log").read_text().splitlines()) == 2


def test_a_failed_sync_is_tried_again(machine):
    folder, programs = machine
    script(programs / "uv", "mkdir -p .venv; exit 2\n")
    assert make(folder, "setup", path=programs).returncode != 0
    assert not (folder / ".venv" / ".synced").exists()


def test_without_uv_a_venv_brings_it(machine):
    folder, programs = machine
    fake_uv(programs / "kept")
    pip = f"cp={programs}/kept; cat $cp > .tools/bin/uv; chmod +x .tools/bin/uv"
    venv = f"mkdir -p .tools/bin; echo '{pip}' > .tools/bin/python; chmod +x .tools/bin/python"
    script(programs / "python3.11", f'[ "$1" = -c ] && echo "$0" && exit; [ "$2" = venv ] || exit 1; {venv}\n')
    done = make(folder, "setup", path=programs)
    assert done.returncode == 0, done.stderr
    assert "Installing uv==" in done.stderr
    assert "sync --frozen" in (folder / "uv.log").read_text()


def test_without_ensurepip_pip_brings_uv_into_a_folder(machine):
    folder, programs = machine
    fake_uv(programs / "kept")
    pip = f"mkdir -p .tools/lib/bin; cat {programs}/kept > .tools/lib/bin/uv; chmod +x .tools/lib/bin/uv"
    script(programs / "python3.11", f'[ "$1" = -c ] && echo "$0" && exit; [ "$2" = pip ] || exit 1; {pip}\n')
    done = make(folder, "setup", path=programs)
    assert done.returncode == 0, done.stderr
    assert (folder / ".tools" / "lib" / "bin" / "uv").exists()
    assert "sync --frozen" in (folder / "uv.log").read_text()


def test_without_pip_too_the_packages_are_named(machine):
    folder, programs = machine
    script(programs / "python3.11", '[ "$1" = -c ] && echo "$0" && exit; exit 1\n')
    done = make(folder, "setup", path=programs)
    assert done.returncode != 0
    assert "python3-venv" in done.stderr
    assert not (folder / ".tools").exists()


def test_python3_serves_where_it_is_3_11(machine):
    folder, programs = machine
    fake_uv(programs / "uv")
    (programs / "python3.11").rename(programs / "python3")
    assert make(folder, "setup", path=programs).returncode == 0
    assert f"--python {programs}/python3" in (folder / "uv.log").read_text()


def test_without_python_3_11_one_sentence(machine):
    folder, programs = machine
    (programs / "python3.11").unlink()
    script(programs / "python3", "echo elsewhere; exit 1\n")
    done = make(folder, "setup", path=programs)
    assert done.returncode != 0
    assert "Python 3.11 was not found" in done.stderr


@pytest.mark.parametrize("words", ["Darwin arm64", "Linux aarch64"])
def test_another_platform_is_refused(machine, words):
    folder, programs = machine
    system, processor = words.split()
    (programs / "uname").unlink()
    script(programs / "uname", f'[ "$1" = -s ] && echo {system} || echo {processor}\n')
    done = make(folder, "setup", path=programs)
    assert done.returncode != 0
    assert "use a container" in done.stderr


def test_ci_runs_lint_and_all_tests():
    path = REPOSITORY / ".ci" / "run"
    assert os.access(path, os.X_OK)
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
    text = path.read_text()
    assert "set -euo pipefail" in text
    assert "make lint\nmake test-all\n" in text


def test_the_package_list_is_what_is_on_disk():
    listed = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    tops = [path for path in REPOSITORY.iterdir() if path.is_dir() and path.name not in ("tests", "build", "runs")]
    found = [file.parent for top in tops if not top.name.startswith(".") for file in top.rglob("__init__.py")]
    assert sorted(listed) == sorted(".".join(path.relative_to(REPOSITORY).parts) for path in found)


def test_the_kubernetes_folder_does_not_hide_the_client():
    assert not (REPOSITORY / "kubernetes" / "__init__.py").exists()


def project_files() -> list[Path]:
    """What git tracks or would: everything that it does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, check=False, cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("this is not a git checkout")
    names = filter(None, done.stdout.split("\0"))
    return [path for path in map(REPOSITORY.joinpath, names) if path.is_file() and path.name != "uv.lock"]


@pytest.mark.parametrize("needle", HOSTS + PLACES)
def test_no_file_names_a_registry_or_a_place_on_this_machine(needle):
    holding = [path for path in project_files() if needle.encode() in path.read_bytes()]
    assert holding == []
