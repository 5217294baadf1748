"""The files and flags of a model server: those of ``tensorflow_model_server``, and what is refused."""

import pytest

from serving.server import config, flags
from serving.server.config import Batching, Model


def test_the_batching_file(tmp_path):
    path = tmp_path / "batching.config"
    path.write_text(
        "max_batch_size { value: 24 }  # rows\nbatch_timeout_micros { value: 0 }\n"
        "max_enqueued_batches { value: 7 }\nnum_batch_threads { value: 3 }\n"
        "allowed_batch_sizes: 8\nallowed_batch_sizes: 24"
    )
    found = config.batching(path)
    assert found == Batching(most=24, sizes=(8, 24), enqueued=7, threads=3)
    assert [found.padded(n) for n in (1, 8, 9, 24, 25)] == [8, 8, 24, 24, 25]
    assert config.ignored(path) == ["batch_timeout_micros"]
    path.write_text("max_batch_size: { value: 6 }")
    assert [config.batching(path).padded(n) for n in (1, 2, 3, 5, 6)] == [1, 2, 4, 6, 6]


REFUSED = {
    config.models: [
        ("nonsense", "is not a ModelServerConfig"),
        ('model_config_list { config { name: "m" } }', "a name and a base_path"),
        ('model_config_list { config { name: "m" base_path: "gs://b" } }', "not a local folder"),
        (
            'model_config_list { config { name: "m" base_path: "/m" model_platform: "torch" } }',
            "'torch' of m is not supported",
        ),
        (
            'model_config_list { config { name: "m" base_path: "/m" } config { name: "m" base_path: "/n" } }',
            "multiple times",
        ),
        (
            'model_config_list { config { name: "m" base_path: "/m" model_version_policy { specific {} } } }',
            "names no version",
        ),
        ("custom_model_config {}", "custom_model_config is not supported"),
    ],
    config.batching: [
        ("max_batch_size { value: ", "line 1"),
        ("pad_variable_length_inputs: true", "pad_variable_length_inputs is not supported"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: 4", "have to rise up to max_batch_size"),
        ("max_batch_size { value: 0 }", "have to rise"),
        ("max_batch_size", "line 1: ':' or '{' is expected"),
        ("%", "line 1"),
    ],
}


@pytest.mark.parametrize(
    ("read", "text", "message"), [(read, *one) for read, texts in REFUSED.items() for one in texts]
)
def test_files_that_are_refused(tmp_path, read, text, message):
    (tmp_path / "one.config").write_text(text)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "one.config")


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


def test_flags_of_tensorflow_model_server():
    words = [
        "--port=1",
        "--rest_api_port=2",
        "--model_name=m",
        "--model_base_path=/m",
        "--enable_batching=false",
        "--prefer_tflite_model",
        "--rest_api_timeout_in_ms",
        "500",
        "--load_retry_interval_micros=2000000",
        "--grpc_channel_arguments=grpc.max_concurrent_streams=5,a=b",
        "--file_system_poll_wait_seconds=0",
    ]
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
