"""Versions that are partly written or damaged: the served version stays until a complete one loads."""

import os
import shutil
import time
from types import SimpleNamespace

import httpx
import pytest
from support.served_models import (
    predict_number,
    push_version,
    run_model_server,
    wait_until,
)
from support.served_versions import build_options, find_available, has_failed, wait_for_polls

from serving.server.loading import versions as folders

pytestmark = pytest.mark.system


@pytest.mark.parametrize(
    ("seconds", "complete"),
    [(0.0, False), (1.9, False), (2.1, True), (-0.1, True)],
    ids=["now", "within settle time", "after settle time", "clock skew"],
)
def test_version_is_complete_after_the_settle_time(version_folder, monkeypatch, seconds, complete):
    changed = folders.get_last_change(version_folder / "1")
    monkeypatch.setattr(folders, "time", SimpleNamespace(time=lambda: changed + seconds))
    assert (
        1 in folders.find_complete_versions(version_folder, settle=2.0)
    ) == complete and 1 in folders.find_complete_versions(version_folder, settle=0.0)


def test_partly_written_version_is_not_loaded(version_folder, tmp_path, monkeypatch):
    push_version(version_folder, tmp_path, 1)
    with run_model_server(build_options(tmp_path)) as app:
        (tmp_path / "2").mkdir()
        copying = True

        def now() -> float:
            """Return the time; during the copy, the time of its last change, however slow this machine is."""
            changed = folders.get_last_change(tmp_path / "2") if copying else None
            return time.time() if changed is None else changed

        monkeypatch.setattr(folders, "time", SimpleNamespace(time=now))
        content = (version_folder / "2" / "saved_model.pb").read_bytes()
        for end in range(0, 1 + len(content), -(-len(content) // 4)):
            (tmp_path / "2" / "saved_model.pb").write_bytes(content[:end])
            wait_for_polls(app)
            assert {state.version for state in app.engine.states("m")} == {1}
            assert predict_number(app.rest_port) == 2.0
        shutil.copytree(version_folder / "2", tmp_path / "2", dirs_exist_ok=True)
        copying = False
        wait_until(lambda: find_available(app) == {2})
        assert predict_number(app.rest_port) == 3.0


@pytest.mark.parametrize("damage", ["graph", "variables", "asset", "empty file"])
def test_version_that_fails_to_load_keeps_the_old_one_until_a_newer_one_loads(version_folder, tmp_path, damage):
    push_version(version_folder, tmp_path, 1)
    with run_model_server(build_options(tmp_path)) as app:
        shutil.copytree(version_folder / "2", tmp_path / "incoming")
        if damage == "graph":
            (tmp_path / "incoming" / "saved_model.pb").write_bytes(b"\xff" * 100)
        elif damage == "variables":
            data = next((tmp_path / "incoming" / "variables").glob("*.data-*"))
            data.write_bytes(data.read_bytes()[:-5])
        elif damage == "asset":
            shutil.rmtree(tmp_path / "incoming" / "assets")
        else:
            (tmp_path / "incoming" / "saved_model.pb").write_bytes(b"")
        os.rename(tmp_path / "incoming", tmp_path / "2")
        wait_until(lambda: has_failed(app))
        (bad, good) = app.engine.states("m")
        assert (bad.version, good.version, good.state) == (2, 1, "AVAILABLE") and bad.code != "OK" and bad.message
        assert predict_number(app.rest_port) == 2.0
        status = httpx.get(f"http://127.0.0.1:{app.rest_port}/v1/models/m").json()["model_version_status"][0]
        assert status["state"] == "END" and status["status"]["error_message"] == bad.message
        push_version(version_folder, tmp_path, 3)
        wait_until(lambda: find_available(app) == {3})
        assert predict_number(app.rest_port) == 4.0


def test_repaired_version_is_loaded_again(version_folder, tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"\xff")
    with run_model_server(build_options(tmp_path, poll=0.1)) as app:
        wait_until(lambda: bool(app.engine.manager._models["m"].failed))
        assert not app.engine.ready
        shutil.copytree(version_folder / "1", tmp_path / "1", dirs_exist_ok=True)
        wait_until(lambda: find_available(app) == {1})
        assert app.engine.ready and predict_number(app.rest_port) == 2.0
