"""The push into a bucket: complete versions or none, each model once, and a number for each of several pushes at once."""

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.s3_server import CUT, fail

from components.training import versioned_pusher
from components.training.versioned_pusher import push
from serving import bucket, bucket_folders


def write_model(folder: Path) -> Path:
    """Write a model whose every file names the folder."""
    for name in ("saved_model.pb", "variables/data", "assets.extra/model.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(folder.name)
    return folder


@pytest.fixture
def base(bucket_home: str) -> Path:
    return bucket.working_copy(f"{bucket_home}/case/versions")


def download_versions(base: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Return what another machine reads: the contents of each complete version, without the record of its origin."""
    uri = bucket.uri_of(base)
    with monkeypatch.context() as patch:
        patch.setenv("SHOWCASE_CACHE", str(Path(os.environ["SHOWCASE_CACHE"]).with_name("other")))
        other = bucket.working_copy(uri)
        versions = {}
        for name in bucket_folders.list_folders(other):
            assert bucket_folders.pull(other / name)
            files = [path for path in (other / name).rglob("*") if path.is_file() and path.name != "origin.json"]
            versions[name] = {path.read_text() for path in files}
    return versions


def test_models_become_versions_1_and_2_and_none_is_pushed_twice(base, tmp_path, monkeypatch):
    models = [write_model(tmp_path / name) for name in ("a", "b")]
    assert [push(model, base).name for model in (*models, *models)] == ["1", "2", "1", "2"]
    assert download_versions(base, monkeypatch) == {"1": {"a"}, "2": {"b"}}


def test_graph_and_manifest_come_last_so_that_no_server_loads_half_a_version(s3_server, base, tmp_path):
    push(write_model(tmp_path / "a"), base)
    written = [request.split("?")[0] for request in s3_server.requests if request.startswith("PUT")]
    assert written[-2].endswith("versions/1/saved_model.pb") and written[-1].endswith("versions/1.manifest")


@pytest.mark.parametrize("part", ["variables", "saved_model.pb", "1.manifest"])
def test_push_that_is_cut_off_shows_no_version_and_then_takes_its_number(s3_server, base, tmp_path, monkeypatch, part):
    monkeypatch.setattr(bucket, "ATTEMPTS", 2)
    model = write_model(tmp_path / "a")
    with s3_server.inject(fail(100, CUT, "PUT", part)), pytest.raises(bucket.BucketError):
        push(model, base)
    assert download_versions(base, monkeypatch) == {}
    assert push(write_model(tmp_path / "b"), base).name == "2"
    assert push(model, base).name == "1"
    assert download_versions(base, monkeypatch) == {"1": {"a"}, "2": {"b"}}


def test_push_on_a_new_machine_counts_on(base, tmp_path, monkeypatch):
    push(write_model(tmp_path / "a"), base)
    uri = bucket.uri_of(base)
    monkeypatch.setenv("SHOWCASE_CACHE", str(tmp_path / "new"))
    base = bucket.working_copy(uri)
    assert push(write_model(tmp_path / "b"), base).name == "2" and push(tmp_path / "a", base).name == "1"


def test_two_pushes_that_claim_a_number_at_once_get_two_numbers(s3_server, base, tmp_path, monkeypatch):
    """Both see an empty list of claims, as each waits for the other before it writes its own."""
    monkeypatch.setattr(versioned_pusher, "PAUSE", 0.3)
    barrier, waited = threading.Barrier(2), set()

    def hold_first_claims(environment):
        path = environment["PATH_INFO"]
        if "/.claims/" in path and environment["REQUEST_METHOD"] == "POST" and threading.get_ident() not in waited:
            waited.add(threading.get_ident())
            if len(waited) <= 2:
                barrier.wait(30)

    with s3_server.inject(hold_first_claims), ThreadPoolExecutor(2) as threads:
        origins = ["s3://x/a", "s3://x/b"]
        numbers = list(threads.map(lambda origin: versioned_pusher._claim_number(base, origin), origins))
    assert len(waited) >= 2 and len(set(numbers)) == 2
    assert [versioned_pusher._claim_number(base, origin) for origin in origins] == numbers


def test_origin_of_a_version_is_the_same_on_every_machine(base, bucket_home):
    model = write_model(bucket.working_copy(f"{bucket_home}/case/artifacts/ServingCheck/blessing/7/model"))
    version = push(model, base)
    origin = json.loads((version / "assets.extra" / "origin.json").read_text())
    assert origin == {"model": f"{bucket_home}/case/artifacts/ServingCheck/blessing/7/model"}
