"""Versions that are served: new ones replace old ones under load, by the version policy and the model config file."""

import logging
import os
import shutil
import threading

import numpy as np
import pytest
from support.served_client import ModelServerClient
from support.served_models import (
    POLL,
    build_predict_request,
    predict_number,
    push_version,
    run_model_server,
    wait_until,
)
from support.served_versions import build_options, find_available, list_states, wait_for_polls

from serving.server.app import ServerOptions
from serving.server.config import ModelConfig

pytestmark = pytest.mark.system


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

    with run_model_server(build_options(tmp_path)) as app:
        threads = [threading.Thread(target=load, args=(app,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(answers) > 20)
        for version in (2, 3):
            push_version(version_folder, tmp_path, version)
            wait_until(lambda version=version: find_available(app) == {version})
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
            lambda: {state.version: state.state for state in list_states(app)} == {1: "END", 2: "END", 3: "AVAILABLE"}
        )


def test_running_request_finishes_on_the_old_version(signatures_version, tmp_path):
    shutil.copytree(signatures_version, tmp_path / "1")
    with run_model_server(build_options(tmp_path)) as app:
        client = ModelServerClient(app)
        slow = client.stub.Predict.future(
            build_predict_request("m", {"turns": np.array([1000], np.int32)}, "slow"), timeout=60
        )
        wait_until(lambda: app.engine.servable("m").active_requests)
        shutil.copytree(signatures_version, tmp_path / ".2")
        os.rename(tmp_path / ".2", tmp_path / "2")
        assert slow.result().model_spec.version.value == 1
        wait_until(lambda: find_available(app) == {2})
        client.close()


def test_deleted_newest_version_is_replaced_by_the_previous_one(version_folder, tmp_path):
    push_version(version_folder, tmp_path, 1)
    push_version(version_folder, tmp_path, 2)
    with run_model_server(build_options(tmp_path)) as app:
        wait_until(lambda: find_available(app) == {2})
        shutil.rmtree(tmp_path / "2")
        wait_until(lambda: find_available(app) == {1})
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
        wait_until(lambda: find_available(app) == expected)


CONFIG = """model_config_list {{ config {{ name: "m" base_path: "{0}" model_platform: "tensorflow"
  model_version_policy {{ specific {{ versions: {1} }} }} version_labels {{ key: "stable" value: {1} }} }} }}"""


def test_changes_of_the_model_config_file_are_applied(version_folder, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = tmp_path / "models.config"
    path.write_text(CONFIG.format(version_folder, 1))
    changes = {"config_file": path, "config_poll": POLL, "grpc_port": None, "rest_port": 0, "poll": POLL}
    with run_model_server(ServerOptions(**changes)) as app:
        wait_until(lambda: find_available(app) == {1})
        assert app.engine.servable("m", label="stable").version == 1
        path.write_text("model_config_list {")
        wait_until(lambda: "not applied" in caplog.text)
        assert find_available(app) == {1}  # an invalid file changes nothing
        path.write_text(CONFIG.format(version_folder, 2).replace("stable", "other"))
        wait_until(lambda: "not currently available for inference" in caplog.text)
        assert find_available(app) == {1}  # its label names a version that is not loaded
        path.write_text("# no config\n")
        wait_until(lambda: "Taking no action for empty config" in caplog.text)
        assert find_available(app) == {1}
        path.write_text(CONFIG.format(version_folder, 2).split("version_labels")[0] + "} }")
        wait_until(lambda: find_available(app) == {2})
