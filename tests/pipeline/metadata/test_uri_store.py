"""The metadata store holds URIs of a bucket, and who reads it gets paths of his own machine."""

import json
import sqlite3
from pathlib import Path

import pytest
from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from pipeline.metadata import store, store_server
from pipeline.metadata.store_address import MetadataAddress
from pipeline.run import Run
from serving import bucket

HOME = "s3://bucket/home"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return a function that moves the test to another machine: to a cache of that name."""

    def move(name: str) -> Path:
        monkeypatch.setenv("SHOWCASE_CACHE", str(tmp_path / name))
        return bucket.working_copy(HOME)

    return move


def put_artifact(address: MetadataAddress, folder: Path) -> int:
    """Store an artifact with a path in each place where a store may have one; return its id."""
    with store.open_for_writing(address) as connection:
        kind = mlmd.ArtifactType(name="Model", properties={"place": mlmd.STRING})
        artifact = mlmd.Artifact(type_id=connection.put_artifact_type(kind), uri=str(folder))
        artifact.properties["place"].string_value = str(folder / "x")
        artifact.custom_properties["text"].string_value = json.dumps({"model": str(folder), "other": "/elsewhere"})
        artifact.custom_properties["number"].double_value = 0.1
        return connection.put_artifacts([artifact])[0]


def check_stored_texts(address: MetadataAddress, folder: Path, number: int) -> None:
    with store.open_for_reading(address) as connection:
        (artifact,) = connection.get_artifacts_by_id([number])
        assert connection.get_artifacts_by_uri(str(folder))[0].id == number
    assert artifact.uri == str(folder) and artifact.properties["place"].string_value == str(folder / "x")
    assert json.loads(artifact.custom_properties["text"].string_value) == {"model": str(folder), "other": "/elsewhere"}
    assert artifact.custom_properties["number"].double_value == 0.1


def test_sqlite_file_holds_uris_and_is_valid_on_another_machine(machine):
    folder = machine("first") / "case" / "artifacts" / "7"
    address = MetadataAddress.of(machine("first"))
    number = put_artifact(address, folder)
    store.save(address, Run("r", "fraud", "pushed", "", "f", {"pushed": str(folder), "source": "/data"}))
    check_stored_texts(address, folder, number)
    content = address.file.read_bytes()
    assert str(folder).encode() not in content and f"{HOME}/case/artifacts/7".encode() in content
    moved = machine("second")
    moved.mkdir(parents=True)
    (moved / "metadata.sqlite").write_bytes(content)
    address, folder = MetadataAddress.of(moved), moved / "case" / "artifacts" / "7"
    check_stored_texts(address, folder, number)
    assert store.runs(address)[0].facts == {"pushed": str(folder), "source": "/data"}
    with sqlite3.connect(moved / "metadata.sqlite") as connection:
        assert connection.execute("SELECT uri FROM Artifact").fetchall() == [(f"{HOME}/case/artifacts/7",)]


@pytest.mark.system
def test_metadata_server_holds_uris_that_each_client_resolves(machine, tmp_path):
    server, port = store_server.serve(MetadataAddress(tmp_path / "m.sqlite"), 0, "127.0.0.1")
    try:
        address = MetadataAddress(f"grpc://127.0.0.1:{port}")
        number = put_artifact(address, machine("first") / "a")
        check_stored_texts(address, machine("second") / "a", number)
        (artifact,) = MetadataStore(address.connection()).get_artifacts_by_id([number])
        assert artifact.uri == f"{HOME}/a"  # what programs other than ours see
    finally:
        server.stop(None)


def test_text_of_a_folder_is_stored_as_it_is(machine, tmp_path):
    machine("first")
    address = MetadataAddress.of(tmp_path / "home")
    number = put_artifact(address, tmp_path / "home" / "a")
    check_stored_texts(address, tmp_path / "home" / "a", number)
    assert str(tmp_path / "home" / "a").encode() in address.file.read_bytes()
