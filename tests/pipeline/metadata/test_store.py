"""The store of runs: what is written is read, killed runs are known, two runs of a case do not meet."""

import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress


def run(**changes: object) -> store.Run:
    one = store.Run("fraud-1", "fraud", "running", "", "f", {"pid": str(os.getpid()), "spans": "0:9"})
    return replace(one, **changes)


def test_a_home_without_a_store_has_no_runs_and_gets_none(tmp_path: Path) -> None:
    assert store.runs(MetadataAddress.of(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_runs_come_back_as_they_were_written_and_by_case(tmp_path: Path) -> None:
    path = MetadataAddress.of(tmp_path)
    store.save(path, run())
    store.save(path, run(id="image-1", case="image", state="pushed", reason="version 1"))
    store.save(path, run(state="refused", reason="too many nulls"))
    assert [one.id for one in store.runs(path)] == ["fraud-1", "image-1"]
    assert store.runs(path, "fraud") == [run(state="refused", reason="too many nulls")]


def test_a_run_whose_process_is_gone_reads_as_stopped(tmp_path: Path) -> None:
    path = MetadataAddress.of(tmp_path)
    gone = multiprocessing.get_context("spawn").Process(target=int)
    gone.start()
    gone.join()
    store.save(path, run(facts={"pid": str(gone.pid)}))
    found = store.runs(path)[0]
    assert found.state == "stopped" and "goes on from the last finished stage" in found.reason


def test_only_one_is_alone(tmp_path: Path) -> None:
    path = tmp_path / "fraud" / "run.lock"
    with (
        store.alone(path, "run of fraud"),
        pytest.raises(store.BusyError, match="Another run of fraud is under way"),
        store.alone(path, "run of fraud"),
    ):
        pass
    with store.alone(path, "run of fraud"):
        pass
