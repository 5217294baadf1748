"""Config files and flags of the model server, which are those of ``tensorflow_model_server``."""

import pytest

from serving.server import config, flags
from serving.server.config import BatchingParameters, ModelConfig


def test_batching_file_sets_sizes_queue_and_threads(tmp_path):
    path = tmp_path / "batching.config"
    path.write_text(
        "max_batch_size { value: 24 }  # rows\nbatch_timeout_micros { value: 0 }\n"
        "max_enqueued_batches { value: 7 }\nnum_batch_threads { value: 3 }\n"
        "allowed_batch_sizes: 8\nallowed_batch_sizes: 24"
    )
    batching = config.read_batching(path)
    assert batching == BatchingParameters(max_batch_size=24, sizes=(8, 24), max_enqueued_batches=7, threads=3)
    assert [batching.padded_size(n) for n in (1, 8, 9, 24, 25)] == [8, 8, 24, 24, 25]
    assert config.find_ignored_parameters(path) == ["batch_timeout_micros"]
    path.write_text("max_batch_size: { value: 6 }")
    assert [config.read_batching(path).padded_size(n) for n in (1, 2, 3, 5, 6)] == [1, 2, 4, 6, 6]


INVALID = {
    config.read_models: [
        ("nonsense", "is not a ModelServerConfig"),
        ('model_config_list { config { name: "m" } }', "a name and a base_path"),
        ('model_config_list { config { name: "m" base_path: "hdfs://b" } }', "s3://BUCKET/FOLDER"),
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
    config.read_batching: [
        ("max_batch_size { value: ", "is not a BatchingParameters: line 1"),
        ("pad_variable_length_inputs: true", "pad_variable_length_inputs is not supported"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: 4", "must increase up to max_batch_size"),
        ("max_batch_size { value: 0 }", "must increase"),
        ("max_batch_size", "line 1"),
        ("\nmax_size: 8", 'line 2.*no field named "max_size"'),
        ("%", "line 1"),
    ],
}


@pytest.mark.parametrize(
    ("read", "text", "message"), [(read, *example) for read, examples in INVALID.items() for example in examples]
)
def test_invalid_file_is_refused_with_the_reason(tmp_path, read, text, message):
    (tmp_path / "server.config").write_text(text)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "server.config")


def test_model_file_without_a_config_names_no_change_and_an_empty_list_no_models(tmp_path):
    path = tmp_path / "models.config"
    path.write_text("# nothing yet\n")
    assert config.read_models(path) is None
    path.write_text("model_config_list {}")
    assert config.read_models(path) == []


def test_monitoring_file_sets_the_metrics_path(tmp_path):
    path = tmp_path / "monitoring.config"
    path.write_text('prometheus_config { enable: true, path: "/metrics" }')
    assert config.read_metrics_path(path) == "/metrics"
    path.write_text("prometheus_config: { enable: true }")
    assert config.read_metrics_path(path) == "/monitoring/prometheus/metrics"
    path.write_text("prometheus_config { enable: false }")
    assert config.read_metrics_path(path) is None
    path.write_text("prometheus_config { enabled: true }")
    with pytest.raises(ValueError, match='line 1.*no field named "enabled"'):
        config.read_metrics_path(path)


def test_flags_of_tensorflow_model_server_set_the_options():
    arguments = [
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
    options, warnings = flags.parse(arguments)
    assert (options.grpc_port, options.rest_port, options.models) == (1, 2, (ModelConfig("m", "/m"),))
    assert (
        options.prefer_lite
        and not options.batching.enabled
        and options.rest_timeout == 0.5
        and options.retry_seconds == 2.0
    )
    assert (
        options.grpc_options == (("grpc.max_concurrent_streams", 5), ("a", "b")) and options.poll == 0 and not warnings
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "pass --model_base_path or --model_config_file"),
        (["--modelname=m"], "Unknown flag --modelname"),
        (["--ssl_config_file=x", "--model_base_path=/m"], "--ssl_config_file is not supported"),
        (["--port=many", "--model_base_path=/m"], "--port takes a whole number, not 'many'"),
        (["--prefer_tflite_model=perhaps", "--model_base_path=/m"], "takes true or false"),
        (["--saved_model_tags=gpu", "--model_base_path=/m"], "only 'serve'"),
        (["--model_base_path=hdfs://m"], "s3://BUCKET/FOLDER"),
        (["--model_base_path=/m", "--batching_parameters_file=/nowhere"], "cannot be read: No such file"),
    ],
)
def test_invalid_flag_is_refused_with_its_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        flags.parse(arguments)


def test_flag_without_effect_gives_a_warning():
    _, warnings = flags.parse(["--model_base_path=/m", "--num_load_threads=4", "--flush_filesystem_caches"])
    assert [warning.split()[0] for warning in warnings] == ["--num_load_threads", "--flush_filesystem_caches"]
    assert all(f"--{name}" in flags.format_usage() for name in (*flags.SUPPORTED, *flags.IGNORED, *flags.UNSUPPORTED))
