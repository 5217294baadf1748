"""Addresses of the metadata store, and the server that pods share, tested with ML Metadata's own client."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ml_metadata import errors
from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd
from support.command import ROOT

from pipeline.home import Home
from pipeline.kubeflow.deployment import pod_runtime
from pipeline.metadata import store, store_address, store_server
from pipeline.metadata.store_address import MetadataAddress, MetadataAddressError, MetadataUnavailableError
from pipeline.run import Run

pytestmark = pytest.mark.system


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Address of a server over a SQLite file."""
    grpc_server, port = store_server.serve(MetadataAddress(tmp_path / "metadata.sqlite"), 0, "127.0.0.1")
    yield f"grpc://127.0.0.1:{port}"
    grpc_server.stop(0).wait()


def test_address_is_converted_to_a_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(store_address.PASSWORD, "word")
    locations = (tmp_path / "a" / "m.sqlite", "grpc://metadata:8080", "mysql://me@db:3307/mlmd")
    lite, grpc_, mysql = (MetadataAddress(location).connection() for location in locations)
    assert lite.sqlite.filename_uri == str(tmp_path / "a" / "m.sqlite") and (tmp_path / "a").is_dir()
    assert (grpc_.host, grpc_.port) == ("metadata", 8080)
    assert (mysql.mysql.host, mysql.mysql.port, mysql.mysql.user) == ("db", 3307, "me")
    assert (mysql.mysql.database, mysql.mysql.password) == ("mlmd", "word")


@pytest.mark.parametrize(
    "address", ["m:8080", "grpc://m", "http://m:8080", "mysql://db/mlmd", "mysql://me@db", "grpc://m:x", ""]
)
def test_incomplete_address_is_an_error(address: str) -> None:
    for method in (MetadataAddress.connection, MetadataAddress.exists):
        with pytest.raises(MetadataAddressError, match=r"grpc://HOST:PORT or mysql://"):
            method(MetadataAddress(address))


def test_password_in_an_address_is_an_error() -> None:
    with pytest.raises(MetadataAddressError, match="METADATA_PASSWORD"):
        MetadataAddress("mysql://me:secret@db:3306/mlmd").connection()


def test_home_with_a_server_address_uses_the_server(tmp_path: Path, server: str) -> None:
    home = tmp_path / "home"
    assert Home(home).metadata == MetadataAddress(home / "metadata.sqlite") == MetadataAddress.of(home)
    store_address.write_server_address(home, server)
    assert Home(home).metadata == MetadataAddress(server) == pod_runtime("/showcase", server).metadata
    assert MetadataAddress.of(home).exists() and MetadataAddress.of(home).file is None


def test_relative_home_has_an_absolute_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert MetadataAddress.of(Path("runs")) == MetadataAddress(tmp_path / "runs" / "metadata.sqlite")


def test_missing_store_is_empty_and_reading_creates_no_file(tmp_path: Path) -> None:
    address = MetadataAddress.of(tmp_path)
    assert not address.exists()
    assert (store.runs(address), store.outputs(address, "x"), store.stage_states(address, "x")) == ([], {}, {})
    assert list(tmp_path.iterdir()) == []


def closed_port_number() -> Iterator[int]:
    """A port on which no process listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


closed_port = pytest.fixture(closed_port_number)


@pytest.mark.parametrize("template", ["grpc://127.0.0.1:{}", "mysql://me@127.0.0.1:{}/mlmd"])
def test_unreachable_server_is_an_error_and_not_an_empty_store(template: str, closed_port: int) -> None:
    address = MetadataAddress(template.format(closed_port))
    with pytest.raises(
        MetadataUnavailableError, match=f"{closed_port}.* does not answer: Connection refused. Start it"
    ):
        store.runs(address)
    with pytest.raises(MetadataUnavailableError):
        store.save(address, Run("fraud-1", "fraud", "running", "", "abc"))


def test_silent_server_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_address, "CALL_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listening, pytest.raises(MetadataUnavailableError, match="Deadline"):
        store.runs(MetadataAddress(f"grpc://127.0.0.1:{listening.getsockname()[1]}"))


def test_other_server_and_damaged_file_are_errors(tmp_path: Path) -> None:
    other_server = grpc.server(ThreadPoolExecutor(1))
    port = other_server.add_insecure_port("127.0.0.1:0")
    other_server.start()
    with pytest.raises(MetadataUnavailableError, match="does not answer: Method not found"):
        store.runs(MetadataAddress(f"grpc://127.0.0.1:{port}"))
    other_server.stop(0).wait()
    address = MetadataAddress.of(tmp_path)
    address.file.write_text("no database" * 1000)
    for open_store in (store.runs, store_server.MetadataService):
        with pytest.raises(MetadataUnavailableError, match="cannot be opened: .*file is not a database. Restore"):
            open_store(address)


def test_runs_are_saved_and_read_through_the_server(server: str, tmp_path: Path) -> None:
    address = MetadataAddress(server)
    assert store.runs(address) == []
    run = Run("fraud-1", "fraud", "running", "", "abc", {"spans": "0:9"})
    store.save(address, run)
    assert store.runs(address, "fraud") == [run] == store.runs(MetadataAddress.of(tmp_path))
    assert store.runs(address, "image") == []


def test_response_larger_than_the_grpc_default_limit_is_read(server: str) -> None:
    run = Run("fraud-1", "fraud", "pushed", "", "abc", {"settings": "x" * (5 << 20)})
    store.save(MetadataAddress(server), run)
    assert store.runs(MetadataAddress(server)) == [run]


def test_ml_metadata_client_gets_results_errors_and_health(server: str) -> None:
    client = MetadataStore(MetadataAddress(server).connection())
    type_id = client.put_artifact_type(mlmd.ArtifactType(name="Model"))
    (artifact_id,) = client.put_artifacts([mlmd.Artifact(type_id=type_id, uri="here")])
    assert client.get_artifacts_by_id([artifact_id])[0].uri == "here"
    with pytest.raises(errors.NotFoundError, match="Nothing"):
        client.get_artifact_type("Nothing")
    with grpc.insecure_channel(server.removeprefix("grpc://")) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as raised:
            channel.unary_unary("/ml_metadata.MetadataStoreService/Drop")(b"", timeout=5)
        assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_server_program_prints_its_address_and_ends_on_sigterm(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pipeline.metadata.store_server",
        "--home",
        str(tmp_path),
        "--host",
        "127.0.0.1",
        "--port",
        "0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        address = process.stdout.readline().split()[-1]
        assert store.runs(MetadataAddress(address)) == []
        process.terminate()
        assert process.wait(30) == 0
    assert (tmp_path / "metadata.sqlite").is_file()


def test_taken_port_and_invalid_database_exit_with_2(server: str, tmp_path: Path) -> None:
    port = server.rpartition(":")[2]
    for arguments, message in (
        (["--host", "127.0.0.1", "--port", port, "--home", str(tmp_path)], "choose another --port"),
        (["--database", "grpc://x:1"], "already a metadata server"),
        (["--database", "mysql://db"], "mysql://USER@"),
    ):
        process = subprocess.run(
            [sys.executable, "-m", "pipeline.metadata.store_server", *arguments],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=60,
        )
        assert process.returncode == 2 and message in process.stderr and "Traceback" not in process.stderr


@pytest.mark.parametrize("root", ["hdfs://host/showcase", "s3://"])
def test_root_that_is_a_url_of_no_bucket_is_an_error(root: str) -> None:
    with pytest.raises(ValueError, match="s3://BUCKET/FOLDER"):
        pod_runtime(root, "grpc://metadata:8080")
