"""A model server that polls a bucket: whole versions only, and the last ones while the bucket does not answer."""

import logging
import os

import pytest
from support.s3_server import fail, upload_folder
from support.served_models import export_half_plus, predict_number, run_model_server, wait_until
from support.served_versions import build_options, find_available, wait_for_polls

from serving import bucket
from serving.server import config, flags
from serving.server.app import ServerOptions

pytestmark = pytest.mark.system


@pytest.fixture
def upload(s3_server, bucket_home, tmp_path):
    """Return a function that uploads a version and returns what completes it."""
    key = f"{bucket_home.removeprefix('s3://')}/m/versions"

    def upload_version(number: int):
        folder = export_half_plus(tmp_path / "models" / str(number), add=float(number))
        return upload_folder(s3_server.client(), folder, f"{key}/{number}")

    return upload_version


@pytest.fixture
def options(bucket_home) -> ServerOptions:
    return build_options(bucket.working_copy(f"{bucket_home}/m/versions"), retry_seconds=0.1)


def test_version_is_loaded_once_it_is_complete_and_replaces_the_old_one(upload, options):
    upload(1)()
    with run_model_server(options) as app:
        assert find_available(app) == {1} and predict_number(app.rest_port) == 1.0 + 1
        finish = upload(2)
        wait_for_polls(app)
        assert find_available(app) == {1}
        finish()
        wait_until(lambda: find_available(app) == {2})
        assert predict_number(app.rest_port) == 1.0 + 2


def test_only_the_selected_version_is_downloaded(upload, options):
    for number in (1, 2):
        upload(number)()
    with run_model_server(options) as app:
        assert find_available(app) == {2}
    assert os.listdir(options.models[0].base_path) == ["2"]


def test_versions_stay_served_while_the_bucket_does_not_answer_also_after_a_restart(
    s3_server, upload, options, monkeypatch, caplog
):
    monkeypatch.setattr(bucket, "ATTEMPTS", 1)
    upload(1)()
    with run_model_server(options) as app:
        with s3_server.inject(fail(10**6, "503 Slow Down")), caplog.at_level(logging.WARNING):
            wait_for_polls(app)
            assert predict_number(app.rest_port) == 1.0 + 1
        assert "only versions downloaded before are available" in caplog.text
        upload(2)()
        wait_until(lambda: find_available(app) == {2})
    with s3_server.inject(fail(10**6, "503 Slow Down")), run_model_server(options) as app:
        assert find_available(app) == {2} and predict_number(app.rest_port) == 1.0 + 2


def test_download_that_fails_is_tried_again(s3_server, upload, options, monkeypatch):
    monkeypatch.setattr(bucket, "ATTEMPTS", 1)
    with run_model_server(options) as app:
        with s3_server.inject(fail(10**6, "503 Slow Down", "GET", "saved_model.pb")):
            upload(1)()
            wait_for_polls(app)
            assert find_available(app) == set()
        wait_until(lambda: find_available(app) == {1})


def test_flag_and_config_file_name_a_bucket(bucket_home, tmp_path):
    base = f"{bucket_home}/m/versions"
    options, _ = flags.parse([f"--model_base_path={base}", "--model_name=m"])
    assert options.models[0].base_path == str(bucket.working_copy(base))
    text = f'model_config_list {{ config {{ name: "m" base_path: "{base}" }} }}'
    file = bucket.working_copy(f"{bucket_home}/models.config")
    bucket.write_file(file, text.encode())
    options, _ = flags.parse([f"--model_config_file={bucket_home}/models.config"])
    assert options.config_file == file and config.read_content(file) == text.encode()
    (model,) = config.read_models(file)
    assert model.base_path == str(bucket.working_copy(base))
