"""Loading and unloading of versions while the server handles requests."""

import os
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
import tensorflow as tf
from support.served_client import ModelServerClient
from support.served_models import (
    POLL,
    SignaturesModule,
    build_predict_request,
    export_half_plus,
    export_signatures,
    predict_number,
    push_version,
    run_model_server,
    wait_until,
    write_warmup,
)

from serving.server.app import ServerOptions
from serving.server.config import BatchingParameters, ModelConfig
from serving.server.loading import versions as folders
from serving.server.loading.versions import VersionState
from serving.status_errors import ServingError

pytestmark = pytest.mark.system


def options(base: Path, **changes) -> ServerOptions:
    return ServerOptions([ModelConfig("m", str(base))], **({"grpc_port": 0, "rest_port": 0, "poll": POLL} | changes))


def states(app) -> list[VersionState]:
    try:
        return app.engine.states("m")
    except ServingError:
        return []


def versions(app) -> set[int]:
    return {state.version for state in states(app) if state.state == "AVAILABLE"}


def has_failed(app) -> bool:
    return bool(states(app)) and states(app)[0].state == "END"


def wait_for_polls(app) -> None:
    """Wait until the server has polled the folders twice more."""
    manager, polls = app.engine.manager, []
    poll = manager.poll

    async def count_poll() -> None:
        await poll()
        polls.append(1)

    manager.poll = count_poll
    wait_until(lambda: len(polls) >= 2)
    manager.poll = poll


@pytest.fixture(scope="module")
def every_signature(tmp_path_factory) -> Path:
    """Folder of a version with every kind of signature, for tests to copy."""
    return export_signatures(tmp_path_factory.mktemp("signatures") / "1")


def test_version_swap_under_load_loses_no_request_and_unloads_the_old_version(version_folder, tmp_path):
    push_version(version_folder, tmp_path, 1)
    answers: list[tuple[int, float]] = []
    finished = threading.Event()

    def load(app) -> None:
        client = ModelServerClient(app)
        while not finished.is_set():
            answer = client.stub.Predict(build_predict_request("m", {"x": [[2.0]]}), timeout=120)
            answers.append((answer.model_spec.version.value, answer.outputs["y"].float_val[0]))
            response = client.post("m:predict", {"instances": [[2.0]]})
            assert response.status_code == 200
            answers.append((0, response.json()["predictions"][0][0]))
        client.close()

    with run_model_server(options(tmp_path)) as app:
        threads = [threading.Thread(target=load, args=(app,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(answers) > 20)
        for version in (2, 3):
            push_version(version_folder, tmp_path, version)
            wait_until(lambda version=version: versions(app) == {version})
            wait_until(lambda version=version: [number for number, _ in answers].count(version) > 10)
            before = len(answers)
            wait_until(lambda before=before: len(answers) > before + 20)
        finished.set()
        for thread in threads:
            thread.join()
        assert {version for version, _ in answers} == {0, 1, 2, 3}
        assert all(value == 1.0 + version for version, value in answers if version)
        assert {value for _, value in answers} == {2.0, 3.0, 4.0}
        wait_until(
            lambda: {state.version: state.state for state in states(app)} == {1: "END", 2: "END", 3: "AVAILABLE"}
        )


def test_running_request_finishes_on_the_old_version(every_signature, tmp_path):
    shutil.copytree(every_signature, tmp_path / "1")
    with run_model_server(options(tmp_path)) as app:
        client = ModelServerClient(app)
        slow = client.stub.Predict.future(
            build_predict_request("m", {"turns": np.array([1000], np.int32)}, "slow"), timeout=60
        )
        wait_until(lambda: app.engine.servable("m").active_requests)
        shutil.copytree(every_signature, tmp_path / ".2")
        os.rename(tmp_path / ".2", tmp_path / "2")
        assert slow.result().model_spec.version.value == 1
        wait_until(lambda: versions(app) == {2})
        client.close()


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
    with run_model_server(options(tmp_path)) as app:
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
        wait_until(lambda: versions(app) == {2})
        assert predict_number(app.rest_port) == 3.0


@pytest.mark.parametrize("damage", ["graph", "variables", "asset", "empty file"])
def test_version_that_fails_to_load_keeps_the_old_one_until_a_newer_one_loads(version_folder, tmp_path, damage):
    push_version(version_folder, tmp_path, 1)
    with run_model_server(options(tmp_path)) as app:
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
        wait_until(lambda: versions(app) == {3})
        assert predict_number(app.rest_port) == 4.0


def test_repaired_version_is_loaded_again(version_folder, tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"\xff")
    with run_model_server(options(tmp_path, poll=0.1)) as app:
        wait_until(lambda: bool(app.engine.manager._models["m"].failed))
        assert not app.engine.ready
        shutil.copytree(version_folder / "1", tmp_path / "1", dirs_exist_ok=True)
        wait_until(lambda: versions(app) == {1})
        assert app.engine.ready and predict_number(app.rest_port) == 2.0


def test_deleted_newest_version_is_replaced_by_the_previous_one(version_folder, tmp_path):
    push_version(version_folder, tmp_path, 1)
    push_version(version_folder, tmp_path, 2)
    with run_model_server(options(tmp_path)) as app:
        wait_until(lambda: versions(app) == {2})
        shutil.rmtree(tmp_path / "2")
        wait_until(lambda: versions(app) == {1})
        assert predict_number(app.rest_port) == 2.0
        shutil.rmtree(tmp_path / "1")
        wait_for_polls(app)
        assert predict_number(app.rest_port) == 2.0  # the last version stays loaded


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({}, {3}),
        ({"latest": 2}, {2, 3}),
        ({"policy": "all"}, {1, 2, 3}),
        ({"policy": "specific", "specific": (1, 3)}, {1, 3}),
    ],
    ids=["latest", "latest two", "all", "specific"],
)
def test_version_policies_select_the_loaded_versions(version_folder, policy, expected):
    with run_model_server(
        ServerOptions([ModelConfig("m", str(version_folder), **policy)], grpc_port=None, rest_port=0, poll=POLL)
    ) as app:
        wait_until(lambda: versions(app) == expected)


def test_litert_runs_the_signatures_of_the_tflite_file(every_signature, tmp_path):
    shutil.copytree(every_signature, tmp_path / "m" / "1")
    other = SignaturesModule()
    other.scale.assign(5.0)  # so that its outputs differ from the SavedModel's
    tf.saved_model.save(other, str(tmp_path / "other"), signatures={"serving_default": other.add})
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "other"), signature_keys=["serving_default"])
    (tmp_path / "m" / "1" / "model.tflite").write_bytes(converter.convert())
    for prefer, expected in ((False, [6.0, 8.0, 10.0]), (True, [15.0, 20.0, 25.0])):
        with run_model_server(options(tmp_path / "m", prefer_lite=prefer)) as app:
            wait_until(lambda: versions(app) == {1})
            client = ModelServerClient(app)
            for rows in (3, 1, 2):
                inputs = {"a": np.array([1, 2, 3], np.int64)[:rows], "b": np.ones((rows, 2), np.float32)}
                answer = client.stub.Predict(build_predict_request("m", inputs), timeout=20)
                assert list(answer.outputs["sum"].float_val) == expected[:rows]
            same = client.stub.Predict(build_predict_request("m", {"x": [1.0]}, "same"), timeout=20)
            assert list(same.outputs["y"].float_val) == [1.0]
            client.close()


def test_damaged_tflite_prevents_loading(every_signature, tmp_path):
    shutil.copytree(every_signature, tmp_path / "1")
    (tmp_path / "1" / "model.tflite").write_bytes(b"TFL3")
    with run_model_server(options(tmp_path, prefer_lite=True)) as app:
        wait_until(lambda: has_failed(app))
        assert app.engine.states("m")[0].code == "DATA_LOSS"


def test_rows_of_concurrent_requests_share_a_batch(every_signature, tmp_path):
    shutil.copytree(every_signature, tmp_path / "1")
    with run_model_server(options(tmp_path, batching=BatchingParameters(threads=1))) as app:
        wait_until(lambda: versions(app) == {1})
        client = ModelServerClient(app)
        first = client.stub.Predict.future(
            build_predict_request("m", {"turns": np.array([300], np.int32)}, "slow"), timeout=60
        )
        others = [
            client.stub.Predict.future(build_predict_request("m", {"x": np.full(2, n, np.float32)}, "same"), timeout=60)
            for n in range(10)
        ]
        assert [list(future.result().outputs["y"].float_val) for future in others] == [[n, n] for n in range(10)]
        assert first.result().outputs["done"].float_val[0] == 300.0
        histogram = app.metrics.batches["m"]
        assert histogram.sum == 21 and sum(histogram.counts) < 11
        client.close()


def test_warmup_runs_before_serving_and_its_failure_prevents_loading(tmp_path):
    write_warmup(export_half_plus(tmp_path / "m" / "1"), 4.0)
    write_warmup(export_half_plus(tmp_path / "m" / "2"), 4.0, column="wrong")
    model = ModelConfig("m", str(tmp_path / "m"), "all")
    with run_model_server(ServerOptions([model], grpc_port=None, rest_port=0, poll=POLL)) as app:
        wait_until(lambda: len(app.engine.states("m")) == 2 and app.engine.states("m")[0].state == "END")
        assert app.engine.servable("m").version == 1 and app.engine.servable("m").warmup_requests == 1
        states = {state.version: (state.state, state.code) for state in app.engine.states("m")}
        assert states == {1: ("AVAILABLE", "OK"), 2: ("END", "INVALID_ARGUMENT")}


CONFIG = """model_config_list {{ config {{ name: "m" base_path: "{0}" model_platform: "tensorflow"
  model_version_policy {{ specific {{ versions: {1} }} }} version_labels {{ key: "stable" value: {1} }} }} }}"""


def test_changes_of_the_model_config_file_are_applied(version_folder, tmp_path, caplog):
    path = tmp_path / "models.config"
    path.write_text(CONFIG.format(version_folder, 1))
    changes = {"config_file": path, "config_poll": POLL, "grpc_port": None, "rest_port": 0, "poll": POLL}
    with run_model_server(ServerOptions(**changes)) as app:
        wait_until(lambda: versions(app) == {1})
        assert app.engine.servable("m", label="stable").version == 1
        path.write_text("model_config_list {")
        wait_until(lambda: "not applied" in caplog.text)
        assert versions(app) == {1}  # an invalid file changes nothing
        path.write_text(CONFIG.format(version_folder, 2).replace("stable", "other"))
        wait_until(lambda: "not currently available for inference" in caplog.text)
        assert versions(app) == {1}  # its label names a version that is not loaded
        path.write_text(CONFIG.format(version_folder, 2).split("version_labels")[0] + "} }")
        wait_until(lambda: versions(app) == {2})
