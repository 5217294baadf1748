"""The store of runs: saved runs are read back, killed runs are stopped, and a case has one run at a time."""

import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress
from pipeline.run import Run


def make_run(**changes: object) -> Run:
    default = Run("fraud-1", "fraud", "running", "", "f", {"pid": str(os.getpid()), "spans": "0:9"})
    return replace(default, **changes)


def test_reading_a_home_without_a_store_creates_no_file(tmp_path: Path) -> None:
    assert store.runs(MetadataAddress.of(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_saved_runs_are_read_back_by_case(tmp_path: Path) -> None:
    address = MetadataAddress.of(tmp_path)
    store.save(address, make_run())
    store.save(address, make_run(id="image-1", case="image", state="pushed", reason="version 1"))
    store.save(address, make_run(state="refused", reason="too many nulls"))
    assert [run.id for run in store.runs(address)] == ["fraud-1", "image-1"]
    assert store.runs(address, "fraud") == [make_run(state="refused", reason="too many nulls")]


def test_run_of_an_ended_process_is_stopped(tmp_path: Path) -> None:
    address = MetadataAddress.of(tmp_path)
    ended_process = multiprocessing.get_context("spawn").Process(target=int)
    ended_process.start()
    ended_process.join()
    store.save(address, make_run(facts={"pid": str(ended_process.pid)}))
    read_run = store.runs(address)[0]
    assert read_run.state == "stopped" and "resumes it after the last finished stage" in read_run.reason


def test_second_exclusive_lock_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fraud" / "run.lock"
    with (
        store.exclusive_lock(path, "run of fraud"),
        pytest.raises(store.BusyError, match="Another run of fraud is under way"),
        store.exclusive_lock(path, "run of fraud"),
    ):
        pass
    with store.exclusive_lock(path, "run of fraud"):
        pass
