"""The image: a build stage and a final one, locked packages, no root, and consistency with manifests and pipeline."""

import importlib.util
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.manifests import FOLDER, list_containers, list_pod_templates, render_manifests, require_tool

pytestmark = pytest.mark.system

ROOT = FOLDER.parent


def test_hadolint_accepts_the_dockerfile_and_refuses_a_broken_one(tmp_path: Path) -> None:
    hadolint = require_tool("hadolint")
    result = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    broken = tmp_path / "Dockerfile"
    broken.write_text("FROM python:latest\nRUN cd /tmp\n")
    assert subprocess.run([hadolint, str(broken)], capture_output=True).returncode == 1


def instructions() -> Iterator[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text())
    for line in text.splitlines():
        if line and not line.startswith("#"):
            yield tuple(line.split(maxsplit=1))


def test_image_has_pinned_bases_locked_packages_and_no_root() -> None:
    steps = list(instructions())
    bases, stages = zip(*(text.partition(" AS ")[::2] for name, text in steps if name == "FROM"), strict=True)
    images = [base for base in bases if base not in stages]
    assert len(images) == 2 and all(re.search(r":3\.11-\w+", image) for image in images)
    assert stages[-1] == "" and bases[-1] in images  # what is built by default has nothing of the stages with tools
    syncs = [text for name, text in steps if name == "RUN" and "uv sync" in text]
    assert syncs and all("--frozen" in sync and "--group kubeflow" in sync for sync in syncs)
    assert [text for name, text in steps if name == "USER"] == ["10001:10001"]
    assert {spec["securityContext"]["runAsUser"] for _, spec, _ in list_containers(render_manifests("base"))} == {10001}


def test_what_is_removed_from_the_image_is_what_the_packages_have() -> None:
    """A package that moves its files would silently make the image larger."""
    script = (ROOT / "kubernetes" / "image" / "trim_packages.sh").read_text()
    names = [name for line in re.findall(r"^rm -rf? (.*)$", script, re.MULTILINE) for name in line.split()]
    packages = Path(tensorflow_folder()).parent
    assert len(names) > 10 and not [name for name in names if not list(packages.glob(name))]


def test_trimming_keeps_code_and_strips_libraries(tmp_path: Path) -> None:
    remaining = ["tensorflow/python/core.py", "pyarrow/libarrow.so.1801", "numpy.libs/libblas.so", "tests.py"]
    removed = [
        "tensorflow/include/a.h",
        "keras/tests/test_a.py",
        "tfx/testdata/a.csv",
        "pyarrow/libarrow_flight.so.1801",
        "clang/a.so",
    ]
    for name in remaining + removed:
        (tmp_path / "packages" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "packages" / name).touch()
    strip = tmp_path / "bin" / "strip"
    strip.parent.mkdir()
    strip.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/stripped\n')
    strip.chmod(0o755)
    variables = os.environ | {"PATH": f"{strip.parent}:{os.environ['PATH']}"}
    command = [str(ROOT / "kubernetes" / "image" / "trim_packages.sh"), str(tmp_path / "packages")]
    subprocess.run(command, check=True, env=variables)
    files = (path for path in (tmp_path / "packages").rglob("*") if path.is_file())
    assert sorted(str(path.relative_to(tmp_path / "packages")) for path in files) == sorted(remaining)
    assert (tmp_path / "stripped").read_text().split() == ["--strip-unneeded", "./pyarrow/libarrow.so.1801"]


def tensorflow_folder() -> str:
    """Return the folder of the installed TensorFlow, without importing it."""
    spec = importlib.util.find_spec("tensorflow")
    assert spec and spec.submodule_search_locations
    return spec.submodule_search_locations[0]


def test_copied_sources_exist_and_include_every_package() -> None:
    sources = [
        source
        for name, text in instructions()
        if name == "COPY" and "--from" not in text
        for source in text.split()[:-1]
    ]
    assert all((ROOT / source).exists() for source in sources)
    included = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {source.split("/")[0] for source in sources} <= included
    tops = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert tops <= set(sources)


def test_image_pipeline_and_manifests_agree_on_name_user_and_volume() -> None:
    from pipeline.kubeflow import deployment

    settings = deployment.read_deployment()
    images = {entry["image"] for _, _, entry in list_containers(render_manifests("base"))}
    claims = {
        v["persistentVolumeClaim"]["claimName"]
        for _, t in list_pod_templates(render_manifests("base"))
        for v in t["spec"]["volumes"]
        if "persistentVolumeClaim" in v
    }
    assert settings.image in images and claims == {settings.volume} and settings.user == 10001
    assert settings.metadata == "grpc://metadata:8080" and ("Service", "metadata") in {
        (entry["kind"], entry["metadata"]["name"]) for entry in render_manifests("base")
    }
