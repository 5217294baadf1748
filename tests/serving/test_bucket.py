"""Working copies and objects: names, errors before any work, and requests that fail."""

import json
from pathlib import Path

import pytest
from support.s3_server import CUT, delay, fail, refuse_anonymous

from serving import bucket


@pytest.mark.parametrize("uri", ["s3://bucket/a/b", "gs://bucket/a", "s3://bucket"])
def test_uri_and_working_copy_give_each_other(uri, tmp_path, monkeypatch):
    monkeypatch.setenv("SHOWCASE_CACHE", str(tmp_path))
    path = bucket.working_copy(uri)
    assert path == tmp_path / uri.replace("://", "/") and bucket.uri_of(path) == uri
    text = json.dumps({"source": str(path / "spans"), "other": "/data"})
    assert json.loads(bucket.to_uris(text)) == {"source": f"{uri}/spans", "other": "/data"}
    assert bucket.to_paths(bucket.to_uris(text)) == text and bucket.find_paths(text) == [path / "spans"]
    assert bucket.find_paths(str(path / "my spans")) == [path / "my spans"]


@pytest.mark.parametrize("uri", ["s3://", "gs:///", "s3://bucket/../other", "http://host/a", "/folder"])
def test_text_that_names_no_bucket_is_refused(uri):
    with pytest.raises(ValueError, match="s3://BUCKET/FOLDER"):
        bucket.working_copy(uri)


def test_path_outside_of_working_copies_has_no_uri_and_asks_no_bucket(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert bucket.uri_of(tmp_path) == "" and bucket.read_file(tmp_path / "x") is None
    bucket.check(tmp_path, write=True)
    assert bucket.list_names(tmp_path) == [] and not bucket.pull_file(tmp_path / "x")


def test_object_is_written_read_listed_and_deleted(s3_server, bucket_home):
    folder = bucket.working_copy(bucket_home)
    assert bucket.read_file(folder / "a" / "x") is None and bucket.list_names(folder) == []
    bucket.write_file(folder / "a" / "x", b"one")
    bucket.write_file(folder / "b", b"")
    assert s3_server.list_keys(bucket_home.removeprefix("s3://")) == ["a/x", "b"]
    assert bucket.read_file(folder / "a" / "x") == b"one" and bucket.read_file(folder / "b") == b""
    assert bucket.list_names(folder) == ["a", "b"]
    assert bucket.pull_file(folder / "a" / "x") and (folder / "a" / "x").read_bytes() == b"one"
    bucket.delete(folder / "a")
    assert bucket.read_file(folder / "a" / "x") is None and bucket.list_names(folder) == ["b"]


def test_missing_bucket_is_reported_with_its_name(bucket_home):
    with pytest.raises(bucket.BucketError, match="s3://no-such-bucket/home cannot be read.*NO_SUCH_BUCKET.*Check"):
        bucket.check(bucket.working_copy("s3://no-such-bucket/home"))


def test_missing_credentials_are_reported_with_their_variables(s3_server, bucket_home, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    bucket._connect.cache_clear()
    with s3_server.inject(refuse_anonymous), pytest.raises(bucket.BucketError, match="AWS_ACCESS_KEY_ID"):
        bucket.check(bucket.working_copy(bucket_home))
    bucket._connect.cache_clear()


def test_address_without_a_server_is_reported_within_seconds(bucket_home, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(bucket.BucketError, match="AWS_ENDPOINT_URL"):
        bucket.check(bucket.working_copy(bucket_home))


def test_bucket_that_takes_no_objects_is_reported_only_to_writers(s3_server, bucket_home):
    folder = bucket.working_copy(bucket_home)
    with s3_server.inject(fail(9, "403 Access Denied", "POST")):
        bucket.check(folder)
        with pytest.raises(bucket.BucketError, match="ACCESS_DENIED|AccessDenied"):
            bucket.check(folder, write=True)


@pytest.mark.parametrize("fault", [fail(2, "503 Slow Down"), fail(2, "500 Internal Error"), fail(2, CUT, "PUT")])
def test_failed_request_is_sent_again(s3_server, bucket_home, fault):
    file, before = Path(bucket.working_copy(bucket_home), "x"), len(s3_server.requests)
    with s3_server.inject(fault):
        bucket.write_file(file, b"content")
    assert bucket.read_file(file) == b"content"
    repeated = s3_server.requests[before:]
    assert len(repeated) > len(set(repeated))


def test_slow_answers_are_waited_for(s3_server, bucket_home):
    file = bucket.working_copy(bucket_home) / "x"
    with s3_server.inject(delay(0.5)):
        bucket.write_file(file, b"content")
        assert bucket.read_file(file) == b"content"
