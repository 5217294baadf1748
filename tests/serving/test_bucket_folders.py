"""Folders of a bucket are whole or absent, whatever happens to an upload, a download or a listing."""

import os
import random
from pathlib import Path

import pytest
from support.s3_server import CUT, fail, hide_listings

from serving import bucket, bucket_folders

LARGE = 12 << 20  # bytes; an upload of more than one part


@pytest.fixture
def folder(bucket_home: str) -> Path:
    return bucket.working_copy(bucket_home) / "folder"


def write_files(folder: Path, seed: int = 0) -> dict[str, bytes]:
    """Write random files, an empty one and a large one among them; return their contents."""
    source = random.Random(seed)
    sizes = {"one": 10, "empty": 0, "deep/er/two": 5000, "large": LARGE, "saved_model.pb": 100}
    contents = {name: source.randbytes(size) for name, size in sizes.items()}
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return contents


def read_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def move_to_another_machine(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str = "other") -> Path:
    """Return the folder's working copy on a machine that has no copies yet."""
    uri = bucket.uri_of(folder)
    monkeypatch.setenv("SHOWCASE_CACHE", str(Path(os.environ["SHOWCASE_CACHE"]).with_name(name)))
    return bucket.working_copy(uri)


def test_folder_arrives_on_another_machine_with_all_its_files(folder, monkeypatch):
    contents = write_files(folder)
    bucket_folders.push(folder)
    copy = move_to_another_machine(monkeypatch, folder)
    assert copy != folder and bucket_folders.pull(copy) and read_files(copy) == contents


def test_only_what_differs_is_transferred(s3_server, folder):
    write_files(folder)
    bucket_folders.push(folder)
    before = len(s3_server.requests)
    bucket_folders.push(folder)
    assert bucket_folders.pull(folder)
    assert all("folder.manifest" in request for request in s3_server.requests[before:])
    (folder / "one").write_bytes(b"changed")
    before = len(s3_server.requests)
    bucket_folders.push(folder)
    written = {request.split("?")[0].split("/home/")[1] for request in s3_server.requests[before:] if "PUT" in request}
    assert written == {"folder/one", "folder.manifest"}


def test_linked_folders_are_uploaded_as_what_they_link_to(folder, tmp_path, monkeypatch):
    contents = write_files(tmp_path / "span")
    folder.mkdir(parents=True)
    (folder / "span-1").symlink_to(tmp_path / "span", target_is_directory=True)
    bucket_folders.push(folder)
    copy = move_to_another_machine(monkeypatch, folder)
    assert bucket_folders.pull(copy) and read_files(copy / "span-1") == contents


@pytest.mark.parametrize("part", ["large", "deep", "folder.manifest"])
def test_upload_that_is_cut_off_leaves_no_folder_and_is_whole_when_repeated(s3_server, folder, monkeypatch, part):
    monkeypatch.setattr(bucket, "ATTEMPTS", 2)
    contents = write_files(folder)
    with s3_server.inject(fail(100, CUT, "PUT", part)), pytest.raises(bucket.BucketError, match="home/folder"):
        bucket_folders.push(folder)
    copy = move_to_another_machine(monkeypatch, folder)
    assert not bucket_folders.pull(copy) and not copy.exists()
    assert part == "folder.manifest" or part not in " ".join(s3_server.list_keys(bucket.uri_of(copy.parent)[5:]))
    folder = move_to_another_machine(monkeypatch, copy, "cache")
    bucket_folders.push(folder)
    copy = move_to_another_machine(monkeypatch, folder)
    assert bucket_folders.pull(copy) and read_files(copy) == contents


def test_upload_over_an_older_folder_is_readable_at_any_time(s3_server, folder, monkeypatch):
    old = write_files(folder, seed=1)
    bucket_folders.push(folder)
    monkeypatch.setattr(bucket, "ATTEMPTS", 2)
    (folder / "new").write_bytes(b"new")
    with s3_server.inject(fail(100, CUT, "PUT", "folder/new")), pytest.raises(bucket.BucketError):
        bucket_folders.push(folder)
    copy = move_to_another_machine(monkeypatch, folder)
    assert bucket_folders.pull(copy) and read_files(copy) == old


def test_late_listing_hides_no_file_of_a_folder(s3_server, folder, monkeypatch):
    contents = write_files(folder)
    bucket_folders.push(folder)
    copy = move_to_another_machine(monkeypatch, folder)
    with s3_server.inject(hide_listings):
        assert bucket_folders.list_folders(copy.parent) == []  # the fault is real
        assert bucket_folders.pull(copy) and read_files(copy) == contents
    assert bucket_folders.list_folders(copy.parent) == ["folder"]


def test_last_file_marks_a_complete_copy(s3_server, folder, monkeypatch):
    write_files(folder)
    bucket_folders.push(folder, last="saved_model.pb")
    written = [request for request in s3_server.requests if "PUT" in request and bucket.uri_of(folder)[5:] in request]
    assert "saved_model.pb" in written[-2] and "folder.manifest" in written[-1]
    copy = move_to_another_machine(monkeypatch, folder)
    monkeypatch.setattr(bucket, "ATTEMPTS", 2)
    with s3_server.inject(fail(100, "503 Slow Down", "GET", "large")), pytest.raises(bucket.BucketError):
        bucket_folders.pull(copy, last="saved_model.pb")
    assert not (copy / "saved_model.pb").exists()


def test_object_that_was_changed_behind_the_manifest_is_refused_with_its_name(folder, monkeypatch):
    write_files(folder)
    bucket_folders.push(folder)
    bucket.write_file(folder / "one", b"0123456789")
    copy = move_to_another_machine(monkeypatch, folder)
    with pytest.raises(bucket.BucketError, match="folder/one is not the object"):
        bucket_folders.pull(copy)


def test_folder_of_others_is_downloaded_by_its_listing(s3_server, folder):
    client, key = s3_server.client(), bucket.uri_of(folder)[5:]
    for name in ("span-1/a.csv", "span-2/b.csv"):
        with client.open_output_stream(f"{key}/{name}") as stream:
            stream.write(name.encode())
    bucket_folders.pull_listed(folder)
    assert read_files(folder) == {"span-1/a.csv": b"span-1/a.csv", "span-2/b.csv": b"span-2/b.csv"}
    before = len(s3_server.requests)
    bucket_folders.pull_listed(folder)
    assert not [request for request in s3_server.requests[before:] if ".csv" in request]


def test_deleted_folder_is_gone_with_its_manifest(s3_server, folder):
    write_files(folder)
    bucket_folders.push(folder)
    bucket_folders.delete(folder)
    assert s3_server.list_keys(bucket.uri_of(folder.parent)[5:]) == [] and not bucket_folders.pull(folder)
    bucket_folders.delete(folder)
