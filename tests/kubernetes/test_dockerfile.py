"""The image: built in two stages from locked packages, not root, and agreeing with manifests and pipeline."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.manifests import FOLDER, containers, rendered, templates, tool

pytestmark = pytest.mark.system

ROOT = FOLDER.parent


def test_hadolint_has_nothing_to_say_and_finds_what_is_wrong(tmp_path: Path) -> None:
    hadolint = tool("hadolint")
    done = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    broken = tmp_path / "Dockerfile"
    broken.write_text("FROM python:latest\nRUN cd /tmp\n")
    assert subprocess.run([hadolint, str(broken)], capture_output=True).returncode == 1


def instructions() -> Iterator[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text())
    for line in text.splitlines():
        if line and not line.startswith("#"):
            yield tuple(line.split(maxsplit=1))


def test_the_image_is_locked_in_two_stages_and_not_root() -> None:
    found = list(instructions())
    images = [text.split()[0] for name, text in found if name == "FROM"]
    assert len(images) == 2 and all(re.search(r":3\.11-\w+", one) for one in images)
    syncs = [text for name, text in found if name == "RUN" and "uv sync" in text]
    assert syncs and all("--frozen" in one and "--group kubeflow" in one for one in syncs)
    assert [text for name, text in found if name == "USER"] == ["10001:10001"]
    assert {spec["securityContext"]["runAsUser"] for _, spec, _ in containers(rendered("base"))} == {10001}


def test_all_that_the_image_copies_is_there_and_all_our_packages_are_copied() -> None:
    sources = [
        one for name, text in instructions() if name == "COPY" and "--from" not in text for one in text.split()[:-1]
    ]
    assert all((ROOT / one).exists() for one in sources)
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(sources) <= sent
    tops = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert tops <= set(sources)


def test_the_image_and_the_pipeline_agree_on_name_user_and_volume() -> None:
    from pipeline.kubeflow import deployment

    told = deployment.read()
    images = {one["image"] for _, _, one in containers(rendered("base"))}
    claims = {
        v["persistentVolumeClaim"]["claimName"]
        for _, t in templates(rendered("base"))
        for v in t["spec"]["volumes"]
        if "persistentVolumeClaim" in v
    }
    assert told.image in images and claims == {told.volume} and told.user == 10001
    assert told.metadata == "grpc://metadata:8080" and ("Service", "metadata") in {
        (one["kind"], one["metadata"]["name"]) for one in rendered("base")
    }
