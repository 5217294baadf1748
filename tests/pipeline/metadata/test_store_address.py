"""Where metadata lie: addresses, and the server that pods share, against the library's own client."""

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

from pipeline.kubeflow.deployment import pod_runtime
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store, store_address, store_server
from pipeline.metadata.store_address import MetadataAddress, MetadataAddressError, MetadataUnavailableError

pytestmark = pytest.mark.system


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Address of a server over a SQLite file."""
    running, port = store_server.serve(MetadataAddress(tmp_path / "metadata.sqlite"), 0, "127.0.0.1")
    yield f"grpc://127.0.0.1:{port}"
    running.stop(0).wait()


def test_addresses_become_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(store_address.PASSWORD, "word")
    places = (tmp_path / "a" / "m.sqlite", "grpc://metadata:8080", "mysql://me@db:3307/mlmd")
    lite, grpc_, mysql = (MetadataAddress(where).connection() for where in places)
    assert lite.sqlite.filename_uri == str(tmp_path / "a" / "m.sqlite") and (tmp_path / "a").is_dir()
    assert (grpc_.host, grpc_.port) == ("metadata", 8080)
    assert (mysql.mysql.host, mysql.mysql.port, mysql.mysql.user) == ("db", 3307, "me")
    assert (mysql.mysql.database, mysql.mysql.password) == ("mlmd", "word")


@pytest.mark.parametrize(
    "address", ["m:8080", "grpc://m", "http://m:8080", "mysql://db/mlmd", "mysql://me@db", "grpc://m:x", ""]
)
def test_an_address_that_lacks_a_part_is_refused(address: str) -> None:
    for ask in (MetadataAddress.connection, MetadataAddress.exists):
        with pytest.raises(MetadataAddressError, match=r"grpc://HOST:PORT or mysql://"):
            ask(MetadataAddress(address))


def test_a_password_in_an_address_is_refused() -> None:
    with pytest.raises(MetadataAddressError, match="METADATA_PASSWORD"):
        MetadataAddress("mysql://me:secret@db:3306/mlmd").connection()


def test_a_home_that_was_told_of_a_server_is_read_from_there(tmp_path: Path, server: str) -> None:
    home = tmp_path / "home"
    assert local_runtime(home).metadata == MetadataAddress(home / "metadata.sqlite") == MetadataAddress.of(home)
    store_address.note(home, server)
    assert local_runtime(home).metadata == MetadataAddress(server) == pod_runtime("/showcase", server).metadata
    assert MetadataAddress.of(home).exists() and MetadataAddress.of(home).file is None


def test_a_home_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert MetadataAddress.of(Path("runs")) == MetadataAddress(tmp_path / "runs" / "metadata.sqlite")


def test_a_store_that_is_not_there_yet_is_empty_and_is_not_made_by_a_look(tmp_path: Path) -> None:
    where = MetadataAddress.of(tmp_path)
    assert not where.exists()
    assert (store.runs(where), store.outputs(where, "x"), store.stage_states(where, "x")) == ([], {}, {})
    assert list(tmp_path.iterdir()) == []


def refusing() -> Iterator[int]:
    """A port at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


closed = pytest.fixture(refusing)


@pytest.mark.parametrize("form", ["grpc://127.0.0.1:{}", "mysql://me@127.0.0.1:{}/mlmd"])
def test_a_server_that_does_not_answer_is_one_sentence_and_no_empty_store(form: str, closed: int) -> None:
    where = MetadataAddress(form.format(closed))
    with pytest.raises(MetadataUnavailableError, match=f"{closed}.* does not answer: Connection refused. Start it"):
        store.runs(where)
    with pytest.raises(MetadataUnavailableError):
        store.save(where, store.Run("fraud-1", "fraud", "running", "", "abc"))


def test_a_server_that_is_silent_is_given_up_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_address, "CALL_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as held, pytest.raises(MetadataUnavailableError, match="Deadline"):
        store.runs(MetadataAddress(f"grpc://127.0.0.1:{held.getsockname()[1]}"))


def test_a_server_of_something_else_and_a_damaged_file_are_one_sentence(tmp_path: Path) -> None:
    other = grpc.server(ThreadPoolExecutor(1))
    port = other.add_insecure_port("127.0.0.1:0")
    other.start()
    with pytest.raises(MetadataUnavailableError, match="does not answer: Method not found"):
        store.runs(MetadataAddress(f"grpc://127.0.0.1:{port}"))
    other.stop(0).wait()
    where = MetadataAddress.of(tmp_path)
    where.file.write_text("no database" * 1000)
    for ask in (store.runs, store_server.Service):
        with pytest.raises(MetadataUnavailableError, match="cannot be opened: .*file is not a database. Restore"):
            ask(where)


def test_runs_are_written_and_read_through_the_server(server: str, tmp_path: Path) -> None:
    where = MetadataAddress(server)
    assert store.runs(where) == []
    run = store.Run("fraud-1", "fraud", "running", "", "abc", {"spans": "0:9"})
    store.save(where, run)
    assert store.runs(where, "fraud") == [run] == store.runs(MetadataAddress.of(tmp_path))
    assert store.runs(where, "image") == []


def test_an_answer_larger_than_grpcs_own_limit_arrives(server: str) -> None:
    run = store.Run("fraud-1", "fraud", "pushed", "", "abc", {"settings": "x" * (5 << 20)})
    store.save(MetadataAddress(server), run)
    assert store.runs(MetadataAddress(server)) == [run]


def test_the_librarys_client_gets_answers_errors_and_health(server: str) -> None:
    client = MetadataStore(MetadataAddress(server).connection())
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
        "pipeline.metadata.store_server",
        "--home",
        str(tmp_path),
        "--host",
        "127.0.0.1",
        "--port",
        "0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as running:
        address = running.stdout.readline().split()[-1]
        assert store.runs(MetadataAddress(address)) == []
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
            [sys.executable, "-m", "pipeline.metadata.store_server", *words],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=60,
        )
        assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("root", ["gs://bucket/showcase", "s3://bucket"])
def test_a_root_that_is_no_folder_is_refused(root: str) -> None:
    with pytest.raises(ValueError, match="mount a bucket as a volume"):
        pod_runtime(root, "grpc://metadata:8080")
