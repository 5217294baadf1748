"""The cluster of one node without starting it: the thin image, kubeconfig files, and what it refuses to start without."""

import hashlib
import json
import os
import re
import tarfile
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from support.manifests import FOLDER, list_containers, render_manifests

ROOT = FOLDER.parent


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER / "local-cluster")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The module, with its state in a folder of its own."""
    module = import_module("cluster")
    monkeypatch.setattr(module, "STATE", tmp_path / "cluster")
    return module


def test_archive_is_a_valid_image_with_the_user_and_the_environment_of_the_dockerfile(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"program")
    names = ["docker.io/library/showcase:0.1.0", "docker.io/tensorflow/serving:2.19.1"]
    import_module("thin_image").write_archive(tmp_path / "image.tar", names, {"pause": program}, ["/pause"])
    with tarfile.open(tmp_path / "image.tar") as archive:
        contents = {entry.name: archive.extractfile(entry).read() for entry in archive}
    (manifest,), layer = json.loads(contents["manifest.json"]), contents["layer.tar"]
    settings = json.loads(contents[manifest["Config"]])
    assert manifest["RepoTags"] == names and manifest["Layers"] == ["layer.tar"]
    assert settings["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert settings["config"]["User"] == re.findall(r"^USER (.*)$", dockerfile, re.MULTILINE)[-1]
    variables = dict(entry.split("=", 1) for entry in settings["config"]["Env"])
    assert variables["PYTHONPATH"] == settings["config"]["WorkingDir"] == "/app"
    assert variables["PATH"].split(":")[:2] == ["/opt/showcase", "/app/.venv/bin"] and "$" not in variables["PATH"]
    (tmp_path / "layer.tar").write_bytes(layer)
    with tarfile.open(tmp_path / "layer.tar") as archive:
        assert archive.extractfile("pause").read() == b"program"
        assert archive.getmember("opt/showcase/tensorflow_model_server").mode == 0o755
        assert archive.getmember("bin").linkname == "usr/bin"


def test_every_mount_is_read_only_and_shows_what_is_there() -> None:
    mounts = {mount["destination"]: mount for mount in import_module("thin_image").list_mounts()}
    assert {"/usr", "/app", "/app/.venv"} <= set(mounts) and mounts["/app"]["source"] == str(ROOT)
    assert all("ro" in mount["options"] and Path(mount["source"]).is_dir() for mount in mounts.values())


@pytest.mark.system
def test_images_have_the_names_that_the_overlay_asks_for(cluster: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "PROGRAMS", cluster.STATE)
    cluster.STATE.mkdir()
    (cluster.STATE / "pause").write_bytes(b"")
    (_, image) = cluster.write_images(None)
    with tarfile.open(image) as archive:
        (manifest,) = json.load(archive.extractfile("manifest.json"))
    expected = {entry["image"] for _, _, entry in list_containers(render_manifests("overlays/laptop"))}
    assert {re.sub("^docker.io/(library/)?", "", name) for name in manifest["RepoTags"]} == expected


def test_kubeconfig_file_is_read_by_the_official_client(tmp_path: Path) -> None:
    from kubernetes.client import Configuration
    from kubernetes.config import load_kube_config

    certificate, settings = tmp_path / "server.crt", Configuration()
    certificate.write_text("certificate")
    path = import_module("node_files").write_kubeconfig(
        tmp_path / "admin", "https://127.0.0.1:1", certificate, "secret"
    )
    load_kube_config(str(path), client_configuration=settings)
    assert settings.host == "https://127.0.0.1:1" and Path(settings.ssl_ca_cert).read_text() == "certificate"
    assert settings.api_key == {"authorization": "Bearer secret"}


@pytest.mark.parametrize(
    ("user", "installed", "message"),
    [
        (1000, True, "needs root"),
        (0, False, "apt-get install --no-install-recommends containerd runc"),
        (0, True, "make cluster-programs"),
    ],
)
def test_start_says_what_is_missing(
    cluster: ModuleType, monkeypatch: pytest.MonkeyPatch, user: int, installed: bool, message: str
) -> None:
    monkeypatch.setattr(cluster, "PROGRAMS", cluster.STATE)
    monkeypatch.setattr(cluster.os, "geteuid", lambda: user)
    monkeypatch.setattr(cluster.shutil, "which", lambda name: name if installed else None)
    with pytest.raises(cluster.ClusterError, match=message):
        cluster.check_machine()


def test_nothing_is_stopped_but_the_node(cluster: ModuleType, capsys: pytest.CaptureFixture) -> None:
    """The id in the file may be another process's by now: here it is this test's."""
    cluster.STATE.mkdir()
    (cluster.STATE / "pid").write_text(str(os.getpid()))
    cluster.stop()
    assert "No cluster runs" in capsys.readouterr().out and not cluster.STATE.exists()


def test_make_builds_every_program_that_the_node_needs(cluster: ModuleType) -> None:
    text = (ROOT / "Makefile").read_text()
    values = dict(re.findall(r"^(API_SERVER|ETCD|DNS|KUBERNETES) = (.*)$", text, re.MULTILINE))
    words = [values["API_SERVER"], values["ETCD"], *values["DNS"].split()]
    prefix, suffixes = re.fullmatch(r"\$\(addprefix (\S+),(.*)\)", values["KUBERNETES"]).groups()
    words += [prefix + suffix for suffix in suffixes.split()]
    assert {Path(word).name for word in words} == set(cluster.NEEDED["built"])
