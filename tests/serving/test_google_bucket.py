"""Working copies of gs:// against an emulator of Google Cloud Storage; what is the same for both is tested with s3://."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from gcp_storage_emulator.server import create_server

from components.training.versioned_pusher import push
from serving import bucket, bucket_folders

pytestmark = pytest.mark.system


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Working copy of a folder in an empty bucket."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket")
    server.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("SHOWCASE_CACHE", str(tmp_path / "cache"))
    yield bucket.working_copy("gs://bucket/home")
    server.stop()


def write_files(folder: Path) -> dict[str, bytes]:
    contents = {"one": b"one", "empty": b"", "deep/two": bytes(3 << 20), "saved_model.pb": b"graph"}
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return contents


def test_folder_arrives_on_another_machine_and_can_be_deleted(home, tmp_path, monkeypatch):
    bucket.check(home, write=True)
    contents = write_files(home / "folder")
    bucket_folders.push(home / "folder")
    assert bucket_folders.list_folders(home) == ["folder"]
    monkeypatch.setenv("SHOWCASE_CACHE", str(tmp_path / "other"))
    copy = bucket.working_copy("gs://bucket/home/folder")
    assert bucket_folders.pull(copy) and {name: (copy / name).read_bytes() for name in contents} == contents
    bucket_folders.delete(copy)
    assert not bucket_folders.pull(copy) and list(bucket.list_objects(copy)) == []
    bucket_folders.delete(copy)


def test_pushed_models_become_versions(home, tmp_path):
    base = home / "case" / "versions"
    for name in ("a", "b"):
        write_files(tmp_path / name)
    assert [push(tmp_path / name, base).name for name in ("a", "b", "a")] == ["1", "2", "1"]
    assert bucket_folders.list_folders(base) == ["1", "2"]


def test_missing_bucket_is_reported_with_its_name(home):
    with pytest.raises(bucket.BucketError, match="gs://no-such-bucket/home was not found"):
        bucket.check(bucket.working_copy("gs://no-such-bucket/home"))
