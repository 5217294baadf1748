"""make and .ci/run on a machine of stub programs: the commands that they run, and their messages if something is missing."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from setuptools import find_packages
from support.order import FIRST_FILES

REPOSITORY = Path(__file__).parents[2]
BASICS = ("sh", "bash", "uname", "dirname", "ls", "head", "rm", "touch", "mkdir", "cat", "chmod", "awk", "sed")
SYSTEM = ("uv", "g++", "javac", "mvn", "npm", "promtool", "kubectl", "redis-server", "chromium")
CHECKS = ("ruff check", "ruff format", "mypy", "lint-imports")
MAKE = shutil.which("make")
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()

pytestmark = [pytest.mark.system, pytest.mark.skipif(MAKE is None, reason="make is not installed")]


class Machine:
    """A checkout with the files that make reads, and the folder of programs that is the whole PATH."""

    def __init__(self, folder: Path) -> None:
        self.checkout, self.programs, self.log = folder / "checkout", folder / "bin", folder / "log"
        self.checkout.mkdir()
        self.programs.mkdir()
        for name in ("Makefile", "pyproject.toml", "uv.lock"):
            shutil.copy(REPOSITORY / name, self.checkout)
        for name in BASICS:
            (self.programs / name).symlink_to(shutil.which(name))

    def add(self, name: str, text: str = "", folder: Path | None = None) -> Path:
        """Add a program that logs its name and arguments, then runs ``text``."""
        path = (folder or self.programs) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.log}\n{text}\n')
        path.chmod(0o755)
        return path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command with only PATH in its environment, so that an outer make has no influence."""
        environment = {"PATH": str(self.programs)}
        return subprocess.run(command, check=False, cwd=self.checkout, env=environment, capture_output=True, text=True)

    def make(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run(str(MAKE), *words)

    def calls(self, *names: str) -> list[str]:
        """Return the calls of these programs in order."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if line.split()[0] in names]


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


# Installations of make setup, and its messages if it cannot install.


def test_setup_syncs_once_and_after_a_change_of_the_lock_file(ready: Machine) -> None:
    assert [ready.make("setup").returncode for _ in range(2)] == [0, 0]
    assert len(ready.calls("uv")) == 1
    later = (ready.checkout / ".venv" / ".synced").stat().st_mtime + 5
    os.utime(ready.checkout / "uv.lock", (later, later))
    ready.make("setup")
    assert len(ready.calls("uv")) == 2
    assert all(call.startswith("uv sync --frozen") for call in ready.calls("uv"))


def test_make_without_a_target_runs_setup(ready: Machine) -> None:
    assert ready.make().returncode == 0
    assert len(ready.calls("uv")) == 1


def test_a_failed_sync_is_repeated(bare: Machine) -> None:
    bare.add("uv", "mkdir -p .venv; exit 2")
    assert bare.make("setup").returncode != 0
    assert bare.make("setup").returncode != 0
    assert len(bare.calls("uv")) == 2


def test_without_uv_a_venv_installs_it(bare: Machine) -> None:
    uv = bare.add("uv", "mkdir -p .venv", bare.checkout.parent)
    pip = f"cat {uv} > .tools/bin/uv; chmod +x .tools/bin/uv"
    venv = f"mkdir -p .tools/bin; echo '{pip}' > .tools/bin/python; chmod +x .tools/bin/python"
    bare.add("python3.11", f'[ "$1" = -c ] && echo "$0" && exit; [ "$2" = venv ] || exit 1; {venv}')
    result = bare.make("setup")
    assert result.returncode == 0, result.stderr
    assert len(bare.calls("uv")) == 1


def test_without_ensurepip_pip_installs_uv_into_a_folder(bare: Machine) -> None:
    uv = bare.add("uv", "mkdir -p .venv", bare.checkout.parent)
    pip = f"mkdir -p .tools/lib/bin; cat {uv} > .tools/lib/bin/uv; chmod +x .tools/lib/bin/uv"
    bare.add("python3.11", f'[ "$1" = -c ] && echo "$0" && exit; [ "$2" = pip ] || exit 1; {pip}')
    result = bare.make("setup")
    assert result.returncode == 0, result.stderr
    assert len(bare.calls("uv")) == 1


def test_without_uv_pip_and_network_the_error_names_what_to_install(bare: Machine) -> None:
    result = bare.make("setup")
    assert result.returncode != 0
    assert "check the network" in result.stderr
    assert "python3-venv" in result.stderr
    assert not (bare.checkout / ".tools").exists()


def test_python3_is_used_where_it_is_3_11(ready: Machine) -> None:
    (ready.programs / "python3.11").rename(ready.programs / "python3")
    assert ready.make("setup").returncode == 0
    assert f"--python {ready.programs}/python3" in ready.calls("uv")[0]


def test_without_python_3_11_the_error_names_the_option(ready: Machine) -> None:
    (ready.programs / "python3.11").unlink()
    ready.add("python3", "echo elsewhere; exit 1")
    result = ready.make("setup")
    assert result.returncode != 0
    assert "make PYTHON=" in result.stderr
    assert ready.calls("uv") == []


@pytest.mark.parametrize("words", ["Darwin arm64", "Linux aarch64"])
def test_another_platform_is_refused(ready: Machine, words: str) -> None:
    system, processor = words.split()
    (ready.programs / "uname").unlink()
    ready.add("uname", f'[ "$1" = -s ] && echo {system} || echo {processor}')
    result = ready.make("setup")
    assert result.returncode != 0
    assert "use a container" in result.stderr


def test_without_npm_the_tests_run_without_the_browser_page(ready: Machine) -> None:
    (ready.programs / "npm").unlink()
    result = ready.make("test")
    assert result.returncode == 0
    assert "apt-get install npm" in result.stderr
    assert "browser page will be skipped" in result.stderr
    assert len(ready.calls("python")) == 1


def test_demo_installs_the_browser_page_once(ready: Machine) -> None:
    results = [ready.make("demo") for _ in range(2)]
    assert [result.returncode for result in results] == [0, 0]
    assert [call.split()[:2] for call in ready.calls("npm")] == [["npm", "ci"]]
    assert [call.split()[1] for call in ready.calls("showcase")] == ["demo", "demo"]
    assert [result.stderr for result in results] == ["", ""]


@pytest.mark.parametrize(
    ("npm", "remedy"), [(None, "apt-get install npm; then make browser"), ("exit 1", "then run make browser")]
)
def test_demo_goes_on_without_the_browser_page_and_says_how_to_get_it(
    ready: Machine, npm: str | None, remedy: str
) -> None:
    (ready.programs / "npm").unlink()
    if npm:
        ready.add("npm", npm)
    result = ready.make("demo")
    assert result.returncode == 0
    assert remedy in result.stderr and "no model in the browser" in result.stderr
    assert len(result.stderr.splitlines()) == (2 if npm else 1)  # make names the failed command
    assert [call.split()[1] for call in ready.calls("showcase")] == ["demo"]


# Commands of the targets.


def test_help_names_every_target(bare: Machine) -> None:
    database = bare.make("--print-data-base", "--question").stdout
    (targets,) = re.findall(r"^\.PHONY: (.*)$", database, re.MULTILINE)
    result = bare.make("help")
    assert result.returncode == 0, result.stderr
    described = dict(line.split(maxsplit=2)[1:] for line in result.stdout.splitlines())
    assert sorted(described) == sorted(targets.split())


@pytest.mark.parametrize("target", ["demo", "check", "test", "test-all"])
def test_a_target_passes_its_arguments_on(ready: Machine, target: str) -> None:
    assert ready.make(target, "ARGS=--one --two").returncode == 0
    assert ready.calls("python", "showcase")[-1].endswith(" --one --two")


def test_jobs_sets_the_number_of_test_processes(ready: Machine) -> None:
    ready.make("test", "JOBS=5")
    assert " -n 5 " in ready.calls("python")[0]


def test_the_test_targets_select_their_tests(ready: Machine) -> None:
    for target, marks in (("check", "not slow and not system"), ("test", "not slow"), ("test-all", "")):
        ready.log.unlink(missing_ok=True)
        assert ready.make(target).returncode == 0
        assert f" -m {marks} " in ready.calls("python")[0] + " "


@pytest.mark.parametrize("fault", CHECKS)
def test_lint_fails_if_one_of_its_checks_fails(ready: Machine, fault: str) -> None:
    (ready.checkout / "fail").write_text(fault)
    assert ready.make("lint").returncode != 0
    assert ready.make("check").returncode != 0
    assert ready.calls("python") == []


def test_lint_runs_every_check_and_no_test(ready: Machine) -> None:
    assert ready.make("lint").returncode == 0
    calls = ready.calls("ruff", "mypy", "lint-imports", "python")
    assert len(calls) == len(CHECKS)
    assert all(call.startswith(check) for call, check in zip(calls, CHECKS, strict=True))


@pytest.mark.parametrize("target", ["check", "test", "test-all"])
def test_a_test_target_fails_if_a_test_fails(ready: Machine, target: str) -> None:
    (ready.checkout / "fail").write_text("python")
    assert ready.make(target).returncode != 0


def test_check_lints_and_runs_the_tests_once(ready: Machine) -> None:
    assert ready.make("check").returncode == 0
    assert len(ready.calls("python")) == 1
    assert len(ready.calls("ruff", "mypy", "lint-imports")) == len(CHECKS)


@pytest.mark.parametrize("part", ["unit", "pipelines", "serving", "deploy"])
def test_a_part_of_the_tests_runs_its_folders_with_the_slow_ones(ready: Machine, part: str) -> None:
    assert ready.make(f"test-{part}", "ARGS=--one").returncode == 0
    (call,) = ready.calls("python")
    assert " -m  " in call and " tests/" in call and call.endswith(" --one")


# The image and its bill of materials.


def test_image_is_built_for_one_platform_and_named_after_the_version(ready: Machine) -> None:
    ready.add("docker")
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert ready.make("image").returncode == 0
    assert ready.calls("docker") == [f"docker build --platform linux/amd64 --tag showcase:{version} ."]


def test_publish_pushes_the_image_and_writes_its_digest(ready: Machine) -> None:
    ready.add("docker", '[ "$1" = push ] || echo host/name@sha256:12ab')
    assert ready.make("publish", "IMAGE=host/name:v1").returncode == 0
    assert ready.calls("docker")[0] == "docker push host/name:v1"
    assert (ready.checkout / "dist" / "image.digest").read_text() == "sha256:12ab\n"


def test_publish_fails_without_a_digest_if_the_push_fails(ready: Machine) -> None:
    ready.add("docker", "exit 1")
    assert ready.make("publish").returncode != 0
    assert not (ready.checkout / "dist" / "image.digest").exists()


def test_sbom_has_the_groups_of_the_image(ready: Machine) -> None:
    assert ready.make("sbom").returncode == 0
    (call,) = ready.calls("uv")
    (sync, _) = re.findall(r"uv sync --frozen (.*?)(?: --no-install-project)? --no-python", DOCKERFILE)
    assert call.startswith("uv export --frozen ") and f" --format cyclonedx1.5 {sync} " in call


def test_clean_removes_the_environment_of_setup(ready: Machine) -> None:
    ready.make("setup")
    assert ready.make("clean").returncode == 0
    assert not (ready.checkout / ".venv").exists()


# Commands of continuous integration.


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


# The list of packages and the order of the tests.


def test_the_files_that_are_run_first_exist() -> None:
    assert all((REPOSITORY / "tests" / name).is_file() for name in FIRST_FILES)


def test_the_package_list_names_every_package() -> None:
    include = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"][
        "include"
    ]
    listed = find_packages(str(REPOSITORY), include=include)
    tops = [path for path in REPOSITORY.iterdir() if path.is_dir() and path.name not in ("tests", "build", "runs")]
    packages = [file.parent for top in tops if not top.name.startswith(".") for file in top.rglob("__init__.py")]
    assert sorted(listed) == sorted(".".join(path.relative_to(REPOSITORY).parts) for path in packages)


def test_the_kubernetes_folder_does_not_hide_the_client() -> None:
    assert not (REPOSITORY / "kubernetes" / "__init__.py").exists()
