"""Workflows and forms for a public host: valid, with pinned actions and few permissions, and without logic of their own."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.command import ROOT
from support.schemas import find_schema_faults

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
ACTION = re.compile(r"[\w-]+/[\w-]+@(v\d+|[0-9a-f]{40})")
# What a step may run itself: a part of .ci/run, targets of make, and handing a digest on.
COMMAND = re.compile(
    r'\.ci/run \$\{\{ matrix\.part \}\}|make [^;&|\n]+|echo "\w+=\$\(cat [\w./]+\)" >> "\$GITHUB_OUTPUT"'
)
every_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def read(path: Path) -> dict[str, Any]:
    """Read a file of YAML, whose key ``on`` is a text as in YAML 1.2."""
    document = yaml.safe_load(path.read_text())
    return {"on" if key is True else key: value for key, value in document.items()}


def find_faults(workflow: dict[str, Any]) -> list[str]:
    """List actions that are not pinned, commands with logic of their own, and permissions beyond reading."""
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    faults = [f"not pinned: {step['uses']}" for step in steps if not ACTION.fullmatch(step.get("uses", "a/b@v1"))]
    faults += [f"logic: {step['run']}" for step in steps if not COMMAND.fullmatch(step.get("run", "make lint"))]
    return faults + ([] if workflow.get("permissions") == {"contents": "read"} else ["permissions"])


@every_workflow
def test_a_workflow_is_valid_pinned_and_without_logic(path: Path) -> None:
    workflow = read(path)
    assert find_schema_faults("github-workflows", workflow) == []
    assert find_faults(workflow) == []
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"uses": "actions/checkout@main"}, "not pinned: actions/checkout@main"),
        ({"run": "pip install uv && uv sync"}, "logic: pip install uv && uv sync"),
    ],
)
def test_moving_actions_and_own_logic_are_found(change: dict[str, str], fault: str) -> None:
    workflow = {"permissions": {"contents": "read"}, "jobs": {"job": {"steps": [change]}}}
    assert find_faults(workflow) == [fault]
    assert find_faults({**workflow, "permissions": "write-all"}) == [fault, "permissions"]


def test_only_the_release_may_write() -> None:
    granted = {
        job: workflow["jobs"][job].get("permissions", {})
        for workflow in map(read, WORKFLOWS)
        for job in workflow["jobs"]
    }
    assert granted["part"] == {}
    assert {name for name, value in granted["image"].items() if value == "write"} == {
        "packages",
        "id-token",
        "attestations",
    }


def test_the_release_runs_on_tags_only_and_its_targets_exist() -> None:
    workflow = read(GITHUB / "workflows" / "release.yml")
    assert workflow["on"] == {"push": {"tags": ["v*"]}}
    commands = [step["run"] for step in workflow["jobs"]["image"]["steps"] if step.get("run", "").startswith("make ")]
    words = [word for command in commands for word in command.split()[1:] if "=" not in word]
    assert words == ["image", "publish", "sbom"]
    assert set(words) <= set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_is_valid(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    assert find_schema_faults("github-issue-forms", form) == []
    ids = [field["id"] for field in form["body"] if "id" in field]
    assert len(set(ids)) == len(ids) >= 2


def test_form_settings_are_valid_and_there_are_forms() -> None:
    assert (
        find_schema_faults(
            "github-issue-config", yaml.safe_load((GITHUB / "ISSUE_TEMPLATE" / "config.yml").read_text())
        )
        == []
    )
    assert len(FORMS) == 3
