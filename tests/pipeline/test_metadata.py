"""Where metadata lie: addresses, and the server that pods share, against the library's own client."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ml_metadata import errors
from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd
from support.command import ROOT

from pipeline import metadata, metadata_server, store
from pipeline.runtime import kubeflow, local


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Address of a server over a SQLite file."""
    running, port = metadata_server.serve(tmp_path / "metadata.sqlite", 0, "127.0.0.1")
    yield f"grpc://127.0.0.1:{port}"
    running.stop(0).wait()


def test_addresses_become_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(metadata.PASSWORD, "word")
    lite, grpc_, mysql = map(
        metadata.connection, (tmp_path / "a" / "m.sqlite", "grpc://metadata:8080", "mysql://me@db:3307/mlmd")
    )
    assert lite.sqlite.filename_uri == str(tmp_path / "a" / "m.sqlite") and (tmp_path / "a").is_dir()
    assert (grpc_.host, grpc_.port) == ("metadata", 8080)
    assert (mysql.mysql.host, mysql.mysql.port, mysql.mysql.user) == ("db", 3307, "me")
    assert (mysql.mysql.database, mysql.mysql.password) == ("mlmd", "word")


@pytest.mark.parametrize("address", ["m:8080", "grpc://m", "http://m:8080", "mysql://db/mlmd", "mysql://me@db", ""])
def test_an_address_that_lacks_a_part_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"grpc://HOST:PORT or mysql://"):
        metadata.connection(address)


def test_a_password_in_an_address_is_refused() -> None:
    with pytest.raises(ValueError, match="METADATA_PASSWORD"):
        metadata.connection("mysql://me:secret@db:3306/mlmd")


def test_a_home_that_was_told_of_a_server_is_read_from_there(tmp_path: Path, server: str) -> None:
    home = tmp_path / "home"
    assert local(home).metadata == home / "metadata.sqlite"
    metadata.note(home, server)
    assert local(home).metadata == server == kubeflow("/showcase", server).metadata


def test_runs_are_written_and_read_through_the_server(server: str, tmp_path: Path) -> None:
    assert store.runs(server) == []
    run = store.Run("fraud-1", "fraud", "running", "", "abc", {"spans": "0:9"})
    store.save(server, run)
    assert store.runs(server, "fraud") == [run] == store.runs(tmp_path / "metadata.sqlite")
    assert store.runs(server, "image") == []


def test_the_librarys_client_gets_answers_errors_and_health(server: str) -> None:
    client = MetadataStore(metadata.connection(server))
    kind = client.put_artifact_type(mlmd.ArtifactType(name="Model"))
    (one,) = client.put_artifacts([mlmd.Artifact(type_id=kind, uri="here")])
    assert client.get_artifacts_by_id([one])[0].uri == "here"
    with pytest.raises(errors.NotFoundError, match="Nothing"):
        client.get_artifact_type("Nothing")
    with grpc.insecure_channel(server.removeprefix("grpc://")) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/ml_metadata.MetadataStoreService/Drop")(b"", timeout=5)
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_the_program_announces_itself_and_ends_on_sigterm(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pipeline.metadata_server",
        "--home",
        str(tmp_path),
        "--host",
        "127.0.0.1",
        "--port",
        "0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as running:
        address = running.stdout.readline().split()[-1]
        assert store.runs(address) == []
        running.terminate()
        assert running.wait(30) == 0
    assert (tmp_path / "metadata.sqlite").is_file()


def test_a_taken_port_and_a_wrong_database_are_one_sentence(server: str, tmp_path: Path) -> None:
    port = server.rpartition(":")[2]
    for words, said in (
        (["--host", "127.0.0.1", "--port", port, "--home", str(tmp_path)], "cannot be had"),
        (["--database", "grpc://x:1"], "needs none before it"),
        (["--database", "mysql://db"], "mysql://USER@"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.metadata_server", *words],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=60,
        )
        assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("root", ["gs://bucket/showcase", "s3://bucket"])
def test_a_root_that_is_no_folder_is_refused(root: str) -> None:
    with pytest.raises(ValueError, match="mount a bucket as a volume"):
        kubeflow(root, "grpc://metadata:8080")
