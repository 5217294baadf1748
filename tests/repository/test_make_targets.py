"""The targets of make on a stub machine: the commands that they run."""

import re
import tomllib

import pytest
from support.stub_machine import MAKE, REPOSITORY, Machine

pytestmark = [pytest.mark.system, pytest.mark.skipif(MAKE is None, reason="make is not installed")]

CHECKS = ("ruff check", "ruff format", "mypy", "lint-imports")
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()


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
