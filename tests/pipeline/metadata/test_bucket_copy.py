"""The SQLite file of a home in a bucket, on machines that take turns and on machines that do not."""

from pathlib import Path

import pytest

from pipeline.home import Home, open_home
from pipeline.metadata import bucket_copy, store
from pipeline.run import Run
from serving import bucket


@pytest.fixture
def machine(bucket_home, tmp_path, monkeypatch):
    """Return a function that moves the test to another machine and opens the home there."""

    def move(name: str) -> Path:
        monkeypatch.setenv("SHOWCASE_CACHE", str(tmp_path / name))
        return open_home(bucket_home)

    return move


def save_run(home: Path, name: str) -> None:
    store.save(Home(home).metadata, Run(name, "fraud", "pushed", "", "f"))


def list_runs(home: Path) -> list[str]:
    return [run.id for run in Home(home).runs()]


def test_machines_that_take_turns_see_each_others_runs(machine):
    first = machine("first")
    assert list_runs(first) == []
    save_run(first, "a")
    bucket_copy.upload_store(first)
    second = machine("second")
    assert list_runs(second) == ["a"]
    save_run(second, "b")
    bucket_copy.upload_store(second)
    assert list_runs(machine("first")) == ["a", "b"]


def test_runs_that_were_not_uploaded_stay(machine):
    first = machine("first")
    save_run(first, "a")
    bucket_copy.upload_store(first)
    save_run(first, "killed")
    assert list_runs(machine("first")) == ["a", "killed"]
    bucket_copy.upload_store(first)
    assert list_runs(machine("second")) == ["a", "killed"]


def test_machines_that_both_wrote_are_told_so_and_neither_loses_a_run(machine):
    for name in ("first", "second"):
        save_run(machine(name), name)
    bucket_copy.upload_store(machine("second"))
    uri = bucket.uri_of(machine("second"))
    with pytest.raises(bucket_copy.MetadataConflictError, match="needs? a metadata server"):
        machine("first")
    first = bucket.working_copy(uri)
    with pytest.raises(bucket_copy.MetadataConflictError):
        bucket_copy.upload_store(first)
    assert list_runs(first) == ["first"] and list_runs(machine("second")) == ["second"]


def test_home_that_is_a_folder_is_left_alone(tmp_path):
    assert open_home(str(tmp_path)) == tmp_path
    save_run(tmp_path, "a")
    bucket_copy.upload_store(tmp_path)
    assert not list(tmp_path.glob("*.uploaded"))
