"""Versions that come and go while requests are answered, and the server as a program: files, flags, signals."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import tensorflow as tf
from served_models import POLL, Doors, doors, half_plus, predict, serving, until
from test_model_server import Client

from serving import config, flags
from serving.app import Options
from serving.config import Batching, Model
from serving.errors import ServingError
from serving.versions import State

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Versions to be copied: number n adds n."""
    base = tmp_path_factory.mktemp("made")
    for version in (1, 2, 3):
        half_plus(base / str(version), float(version))
    return base


def push(made: Path, base: Path, version: int) -> None:
    """As the Pusher does: copied elsewhere, then renamed."""
    base.mkdir(exist_ok=True)
    shutil.copytree(made / str(version), base / f".incoming-{version}")
    os.rename(base / f".incoming-{version}", base / str(version))


def options(base: Path, **changes) -> Options:
    return Options([Model("m", str(base))], **({"grpc_port": 0, "rest_port": 0, "poll": POLL} | changes))


def ask(port: int, value: float = 2.0) -> float:
    found = httpx.post(f"http://127.0.0.1:{port}/v1/models/m:predict", json={"instances": [[value]]}, timeout=120)
    assert found.status_code == 200, found.text
    return found.json()["predictions"][0][0]


def states(app) -> list[State]:
    try:
        return app.engine.states("m")
    except ServingError:
        return []


def versions(app) -> set[int]:
    return {one.version for one in states(app) if one.state == "AVAILABLE"}


def ended(app) -> bool:
    return bool(states(app)) and states(app)[0].state == "END"


def test_a_swap_under_load_loses_nothing_and_frees_the_old(made, tmp_path):
    push(made, tmp_path, 1)
    seen: list[tuple[int, float]] = []
    over = threading.Event()

    def load(app) -> None:
        client = Client(app)
        while not over.is_set():
            answer = client.stub.Predict(predict("m", {"x": [[2.0]]}), timeout=120)
            seen.append((answer.model_spec.version.value, answer.outputs["y"].float_val[0]))
            found = client.post("m:predict", {"instances": [[2.0]]})
            assert found.status_code == 200
            seen.append((0, found.json()["predictions"][0][0]))
        client.close()

    with serving(options(tmp_path)) as app:
        threads = [threading.Thread(target=load, args=(app,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        until(lambda: len(seen) > 20)
        for version in (2, 3):
            push(made, tmp_path, version)
            until(lambda version=version: versions(app) == {version})
            until(lambda version=version: [one for one, _ in seen].count(version) > 10)
            before = len(seen)
            until(lambda before=before: len(seen) > before + 20)
        over.set()
        for thread in threads:
            thread.join()
        assert {version for version, _ in seen} == {0, 1, 2, 3}
        assert all(value == 1.0 + version for version, value in seen if version)
        assert {value for _, value in seen} == {2.0, 3.0, 4.0}
        until(lambda: {one.version: one.state for one in states(app)} == {1: "END", 2: "END", 3: "AVAILABLE"})


def test_a_request_under_way_is_answered_by_the_version_that_took_it(tmp_path):
    doors(tmp_path / "1")
    with serving(options(tmp_path)) as app:
        client = Client(app)
        slow = client.stub.Predict.future(predict("m", {"turns": np.array([1500], np.int32)}, "slow"), timeout=60)
        until(lambda: app.engine.servable("m").using)
        doors(tmp_path / ".2")
        os.rename(tmp_path / ".2", tmp_path / "2")
        assert slow.result().model_spec.version.value == 1
        until(lambda: versions(app) == {2})
        client.close()


def test_a_half_written_version_is_not_touched(made, tmp_path):
    push(made, tmp_path, 1)
    with serving(options(tmp_path, poll=2.0)) as app:
        port = app.rest_port
        whole = (made / "2" / "saved_model.pb").read_bytes()
        (tmp_path / "2").mkdir()
        for end in range(0, 1 + len(whole), -(-len(whole) // 20)):  # a slow copy that goes on over two looks
            (tmp_path / "2" / "saved_model.pb").write_bytes(whole[:end])
            time.sleep(0.2)
            assert {one.version for one in app.engine.states("m")} == {1}
            assert ask(port) == 2.0
        shutil.copytree(made / "2", tmp_path / "2", dirs_exist_ok=True)
        until(lambda: versions(app) == {2})
        assert ask(port) == 3.0


@pytest.mark.parametrize("torn", ["graph", "variables", "asset", "nothing in it"])
def test_a_version_that_does_not_load_leaves_the_old_one_answering_and_a_better_one_replaces_both(made, tmp_path, torn):
    push(made, tmp_path, 1)
    with serving(options(tmp_path)) as app:
        shutil.copytree(made / "2", tmp_path / "incoming")
        if torn == "graph":
            (tmp_path / "incoming" / "saved_model.pb").write_bytes(b"\xff" * 100)
        elif torn == "variables":
            data = next((tmp_path / "incoming" / "variables").glob("*.data-*"))
            data.write_bytes(data.read_bytes()[:-5])
        elif torn == "asset":
            shutil.rmtree(tmp_path / "incoming" / "assets")
        else:
            (tmp_path / "incoming" / "saved_model.pb").write_bytes(b"")
        os.rename(tmp_path / "incoming", tmp_path / "2")
        until(lambda: ended(app))
        (bad, good) = app.engine.states("m")
        assert (bad.version, good.version, good.state) == (2, 1, "AVAILABLE") and bad.code != "OK" and bad.message
        assert ask(app.rest_port) == 2.0
        told = httpx.get(f"http://127.0.0.1:{app.rest_port}/v1/models/m").json()["model_version_status"][0]
        assert told["state"] == "END" and told["status"]["error_message"] == bad.message
        push(made, tmp_path, 3)
        until(lambda: versions(app) == {3})
        assert ask(app.rest_port) == 4.0


def test_a_version_that_is_mended_in_place_is_tried_again(made, tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"\xff")
    with serving(options(tmp_path, poll=0.1)) as app:
        until(lambda: bool(app.engine.manager._kept["m"].failed))
        assert not app.engine.ready
        shutil.copytree(made / "1", tmp_path / "1", dirs_exist_ok=True)
        until(lambda: versions(app) == {1})
        assert app.engine.ready and ask(app.rest_port) == 2.0


def test_the_newest_gone_the_one_before_answers_again(made, tmp_path):
    push(made, tmp_path, 1)
    push(made, tmp_path, 2)
    with serving(options(tmp_path)) as app:
        until(lambda: versions(app) == {2})
        shutil.rmtree(tmp_path / "2")
        until(lambda: versions(app) == {1})
        assert ask(app.rest_port) == 2.0
        shutil.rmtree(tmp_path / "1")
        time.sleep(5 * POLL)
        assert ask(app.rest_port) == 2.0  # nothing is no replacement


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
def test_policies(made, policy, expected):
    with serving(Options([Model("m", str(made), **policy)], grpc_port=None, rest_port=0, poll=POLL)) as app:
        until(lambda: versions(app) == expected)


def test_litert_answers_the_signatures_that_it_has(tmp_path):
    doors(tmp_path / "m" / "1")
    other = Doors()
    other.scale.assign(5.0)  # told apart from the SavedModel's by what it answers
    tf.saved_model.save(other, str(tmp_path / "other"), signatures={"serving_default": other.add})
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "other"), signature_keys=["serving_default"])
    (tmp_path / "m" / "1" / "model.tflite").write_bytes(converter.convert())
    for prefer, expected in ((False, [6.0, 8.0, 10.0]), (True, [15.0, 20.0, 25.0])):
        with serving(options(tmp_path / "m", prefer_lite=prefer)) as app:
            until(lambda: versions(app) == {1})
            client = Client(app)
            for rows in (3, 1, 2):
                inputs = {"a": np.array([1, 2, 3], np.int64)[:rows], "b": np.ones((rows, 2), np.float32)}
                answer = client.stub.Predict(predict("m", inputs), timeout=20)
                assert list(answer.outputs["sum"].float_val) == expected[:rows]
            same = client.stub.Predict(predict("m", {"x": [1.0]}, "same"), timeout=20)
            assert list(same.outputs["y"].float_val) == [1.0]
            client.close()


def test_a_torn_tflite_keeps_the_version_out(tmp_path):
    doors(tmp_path / "1")
    (tmp_path / "1" / "model.tflite").write_bytes(b"TFL3")
    with serving(options(tmp_path, prefer_lite=True)) as app:
        until(lambda: ended(app))
        assert app.engine.states("m")[0].code == "DATA_LOSS"


def test_rows_of_concurrent_requests_run_together(tmp_path):
    doors(tmp_path / "1")
    with serving(options(tmp_path, batching=Batching(threads=1))) as app:
        until(lambda: versions(app) == {1})
        client = Client(app)
        first = client.stub.Predict.future(predict("m", {"turns": np.array([300], np.int32)}, "slow"), timeout=60)
        others = [client.stub.Predict.future(predict("m", {"x": np.full(2, n, np.float32)}, "same"), timeout=60)
                  for n in range(10)]  # fmt: skip
        assert [list(one.result().outputs["y"].float_val) for one in others] == [[n, n] for n in range(10)]
        assert first.result().outputs["done"].float_val[0] == 300.0
        found = app.metrics.batches["m"]
        assert found.sum == 21 and sum(found.counts) < 11
        client.close()


# Files.

CONFIG = """model_config_list {{ config {{ name: "m" base_path: "{0}" model_platform: "tensorflow"
  model_version_policy {{ specific {{ versions: {1} }} }} version_labels {{ key: "stable" value: {1} }} }} }}"""


def test_the_model_config_file_is_followed(made, tmp_path):
    path = tmp_path / "models.config"
    path.write_text(CONFIG.format(made, 1))
    changes = {"config_file": path, "config_poll": POLL, "grpc_port": None, "rest_port": 0, "poll": POLL}
    with serving(Options(**changes)) as app:
        until(lambda: versions(app) == {1})
        assert app.engine.servable("m", label="stable").version == 1
        path.write_text("model_config_list {")
        time.sleep(5 * POLL)
        assert versions(app) == {1}  # a torn file changes nothing
        path.write_text(CONFIG.format(made, 2).replace("stable", "other"))
        time.sleep(5 * POLL)
        assert versions(app) == {1}  # its label names what is not loaded
        path.write_text(CONFIG.format(made, 2).split("version_labels")[0] + "} }")
        until(lambda: versions(app) == {2})
        with pytest.raises(ServingError, match="Unrecognized servable version label: stable"):
            app.engine.servable("m", label="stable")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "is not a ModelServerConfig"),
        ('model_config_list { config { name: "m" } }', "a name and a base_path"),
        ('model_config_list { config { name: "m" base_path: "gs://b" } }', "not a local folder"),
        ('model_config_list { config { name: "m" base_path: "/m" model_platform: "torch" } }', "'torch' of m is not supported"),
        ('model_config_list { config { name: "m" base_path: "/m" } config { name: "m" base_path: "/n" } }', "multiple times"),
        ('model_config_list { config { name: "m" base_path: "/m" model_version_policy { specific {} } } }', "names no version"),
        ("custom_model_config {}", "custom_model_config is not supported"),
    ],
)  # fmt: skip
def test_model_config_files_that_are_refused(tmp_path, text, message):
    (tmp_path / "models.config").write_text(text)
    with pytest.raises(ValueError, match=message):
        config.models(tmp_path / "models.config")


def test_the_batching_file(tmp_path):
    path = tmp_path / "batching.config"
    path.write_text("max_batch_size { value: 24 }  # rows\nbatch_timeout_micros { value: 0 }\n"
                    "max_enqueued_batches { value: 7 }\nnum_batch_threads { value: 3 }\n"
                    "allowed_batch_sizes: 8\nallowed_batch_sizes: 24")  # fmt: skip
    found = config.batching(path)
    assert found == Batching(most=24, sizes=(8, 24), enqueued=7, threads=3)
    assert [found.padded(n) for n in (1, 8, 9, 24, 25)] == [8, 8, 24, 24, 25]
    assert config.ignored(path) == ["batch_timeout_micros"]
    path.write_text("max_batch_size: { value: 6 }")
    assert [config.batching(path).padded(n) for n in (1, 2, 3, 5, 6)] == [1, 2, 4, 6, 6]


@pytest.mark.parametrize(
    ("text", "message"),
    [("max_batch_size { value: ", "line 1"),
     ("pad_variable_length_inputs: true", "pad_variable_length_inputs is not supported"),
     ("max_batch_size { value: 8 } allowed_batch_sizes: 4", "have to rise up to max_batch_size"),
     ("max_batch_size { value: 0 }", "have to rise"), ("max_batch_size", "line 1: ':' or '{' is expected"), ("%", "line 1")],
)  # fmt: skip
def test_batching_files_that_are_refused(tmp_path, text, message):
    (tmp_path / "batching.config").write_text(text)
    with pytest.raises(ValueError, match=message):
        config.batching(tmp_path / "batching.config")


def test_the_monitoring_file(tmp_path):
    path = tmp_path / "monitoring.config"
    path.write_text('prometheus_config { enable: true, path: "/mine" }')
    assert config.monitoring(path) == "/mine"
    path.write_text("prometheus_config: { enable: true }")
    assert config.monitoring(path) == "/monitoring/prometheus/metrics"
    path.write_text("prometheus_config { enable: false }")
    assert config.monitoring(path) is None
    path.write_text("prometheus_config { enabled: true }")
    with pytest.raises(ValueError, match="enable and path"):
        config.monitoring(path)


# Flags.


def test_flags_of_tensorflow_model_server():
    words = ["--port=1", "--rest_api_port=2", "--model_name=m", "--model_base_path=/m", "--enable_batching=false",
             "--prefer_tflite_model", "--rest_api_timeout_in_ms", "500", "--load_retry_interval_micros=2000000",
             "--grpc_channel_arguments=grpc.max_concurrent_streams=5,a=b", "--file_system_poll_wait_seconds=0"]  # fmt: skip
    found, warnings = flags.parse(words)
    assert (found.grpc_port, found.rest_port, found.models) == (1, 2, (Model("m", "/m"),))
    assert found.prefer_lite and not found.batching.enabled and found.rest_timeout == 0.5 and found.retry_seconds == 2.0
    assert found.grpc_options == (("grpc.max_concurrent_streams", 5), ("a", "b")) and found.poll == 0 and not warnings


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--model_base_path or --model_config_file is needed"),
        (["--modelname=m"], "Unknown flag --modelname"),
        (["--ssl_config_file=x", "--model_base_path=/m"], "--ssl_config_file is not supported"),
        (["--port=many", "--model_base_path=/m"], "--port takes a whole number, not 'many'"),
        (["--prefer_tflite_model=perhaps", "--model_base_path=/m"], "takes true or false"),
        (["--saved_model_tags=gpu", "--model_base_path=/m"], "only 'serve'"),
        (["--model_base_path=s3://m"], "not a local folder"),
        (["--model_base_path=/m", "--batching_parameters_file=/nowhere"], "cannot be read: No such file"),
    ],
)
def test_flags_that_are_refused_by_name(words, message):
    with pytest.raises(ValueError, match=message):
        flags.parse(words)


def test_flags_without_effect_are_warned_of_by_name():
    _, warnings = flags.parse(["--model_base_path=/m", "--num_load_threads=4", "--flush_filesystem_caches"])
    assert [one.split()[0] for one in warnings] == ["--num_load_threads", "--flush_filesystem_caches"]
    assert all(f"--{name}" in flags.usage() for name in (*flags.FOLLOWED, *flags.IGNORED, *flags.REFUSED))


# The program.


def program(*words: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "serving.model_server", *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def port_of(process: subprocess.Popen) -> int:
    """Reads its log until it answers, and goes on reading, as a full pipe would stop it."""
    for line in process.stderr:
        if "HTTP/REST API at" in line:
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return int(line.split(":")[-1].split()[0])
    raise AssertionError("it ended")


@contextmanager
def running(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen, int]]:
    process = program(f"--rest_api_port={free_port()}", "--port=0", "--host=127.0.0.1", *words)
    try:
        yield process, port_of(process)
    finally:
        process.kill()
        process.wait()


def test_sigterm_answers_what_is_under_way(tmp_path):
    doors(tmp_path / "1")
    with running(tmp_path, "--model_name=m", f"--model_base_path={tmp_path}") as (process, port):
        body = b'{"signature_name": "slow", "instances": [1500]}'
        head = f"POST /v1/models/m:predict HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port), 120) as client:
            client.sendall(head.encode() + body)
            # Read after it, and answered at once: by now the first is under way.
            assert httpx.get(f"http://127.0.0.1:{port}/v1/models/m", timeout=120).status_code == 200
            process.send_signal(signal.SIGTERM)
            found = b""
            while data := client.recv(1000):
                found += data
        assert found.startswith(b"HTTP/1.1 200 OK") and found.endswith(b'{"predictions":[1500.0]}')
        assert process.wait(60) == 0
        with pytest.raises(httpx.ConnectError):
            ask(port)


@pytest.mark.slow
def test_killed_under_load_it_starts_again_with_the_same_version(made, tmp_path):
    for version in (1, 2):
        push(made, tmp_path, version)
    for _ in range(2):
        with running(tmp_path, "--model_name=m", f"--model_base_path={tmp_path}") as (process, port):
            assert [ask(port) for _ in range(50)] == [3.0] * 50
            process.kill()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_the_program_says_in_one_sentence_what_is_wrong(tmp_path):
    done = subprocess.run([sys.executable, "-m", "serving.model_server", "--ssl_config_file=x"], cwd=ROOT, text=True,
                          capture_output=True)  # fmt: skip
    assert (
        done.returncode == 2
        and done.stderr == "error: --ssl_config_file is not supported: put a proxy in front for TLS.\n"
    )
    assert json.dumps(done.stdout) == '""'
