"""The flags of ``tensorflow_model_server``: which are supported, which have no effect here, and which are refused."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from serving.server import config
from serving.server.app import ServerOptions
from serving.server.config import BatchingParameters, ModelConfig

# Name: default, whose type is the flag's type, and help text.
SUPPORTED: dict[str, tuple[Any, str]] = {
    "port": (8500, "Port of gRPC; 0 disables gRPC."),
    "rest_api_port": (0, "Port of REST; 0 disables REST."),
    "host": ("0.0.0.0", "Address to listen on (not a flag of tensorflow_model_server)."),
    "model_name": ("default", "Name of the model; ignored with a model config file."),
    "model_base_path": ("", "Folder or s3:// or gs:// URI of the model's versions; ignored with a model config file."),
    "model_config_file": ("", "File or s3:// or gs:// URI of a ModelServerConfig."),
    "model_config_file_poll_wait_seconds": (0, "Seconds between reads of the model config file; 0 reads it once."),
    "file_system_poll_wait_seconds": (1, "Seconds between scans for versions; 0 scans once, negative never."),
    "enable_batching": (True, "Batch rows of several requests; on by default here."),
    "batching_parameters_file": ("", "File with BatchingParameters."),
    "monitoring_config_file": ("", "File with a MonitoringConfig."),
    "rest_api_timeout_in_ms": (30000, "Deadline of a REST request, in milliseconds."),
    "max_request_bytes": (
        ServerOptions.max_body,
        "Largest request, in bytes, also once it is decompressed (own flag).",
    ),
    "max_inflight_bytes": (
        ServerOptions.max_inflight,
        "Largest sum of the bytes of large requests under way (own flag).",
    ),
    "max_request_values": (
        ServerOptions.max_values,
        "Largest number of values in JSON or in a message's lists (own flag).",
    ),
    "drain_seconds": (20, "Seconds for running requests at shutdown (not a flag of tensorflow_model_server)."),
    "max_num_load_retries": (5, "Retries for a version that failed to load."),
    "load_retry_interval_micros": (60_000_000, "Microseconds between these retries."),
    "tensorflow_session_parallelism": (0, "Threads inside an operation; 0 for one thread."),
    "tensorflow_intra_op_parallelism": (0, "Same; takes precedence over tensorflow_session_parallelism."),
    "grpc_channel_arguments": ("", "Comma-separated NAME=VALUE pairs."),
    "allow_version_labels_for_unavailable_models": (False, "Allow labels for versions that are not loaded."),
    "enable_model_warmup": (True, "Run the model's warm-up requests before it serves."),
    "prefer_tflite_model": (False, "Run the signatures in model.tflite with LiteRT."),
    "raw_by_tflite": (ServerOptions.lite_raw, "Run 'raw' with LiteRT if the gate passed model_raw.tflite (own flag)."),
    "enable_serialization_as_tensor_content": (False, "Return tensors as bytes (tensor_content)."),
    "enable_grpc_healthcheck_service": (True, "Run the gRPC health service."),
    "saved_model_tags": ("serve", "Only 'serve' is supported."),
}
IGNORED = {
    "tensorflow_inter_op_parallelism": "operations run on the calling thread",
    "rest_api_num_threads": "one event loop serves REST",
    "grpc_max_threads": "one event loop serves gRPC",
    "num_load_threads": "models load one after the other",
    "num_unload_threads": "each model is unloaded once it is drained",
    "flush_filesystem_caches": "files are read once",
    "num_request_iterations_for_warmup": "each warm-up request runs once at every batch size",
    "num_tflite_pools": "each signature has one pool",
    "num_tflite_interpreters_per_pool": "a pool grows with the load",
    "remove_unused_fields_from_bundle_metagraph": "the graph is always freed",
    "enable_signature_method_name_check": "names are always checked",
    "enable_per_model_metrics": "metrics are always labelled by model",
    "per_process_gpu_memory_fraction": "no GPU is used",
    "enable_profiler": "showcase ask B19 --prove takes profiles",
}
UNSUPPORTED = {
    "ssl_config_file": "put a proxy in front for TLS",
    "platform_config_file": "only SavedModels are served",
    "grpc_socket_path": "gRPC listens on a port",
    "rest_api_enable_cors_support": "put a proxy in front for CORS",
    "thread_pool_factory_config_file": "the server has no such pools",
    "xla_cpu_compilation_enabled": "graphs run as they are",
    "mixed_precision": "graphs run as they are",
    "use_alts_credentials": "ALTS works in Google's network only",
    "skip_initialize_tpu": "no TPU is used",
}


def parse(arguments: Sequence[str]) -> tuple[ServerOptions, list[str]]:
    """Parse command-line arguments; return the options and warning messages.

    Raises:
        ValueError: for a flag that is unknown, refused or has an invalid value; the message names it.
    """
    given, warnings = _split(arguments)
    values = {name: default for name, (default, _) in SUPPORTED.items()} | given
    if values["saved_model_tags"] != "serve":
        raise ValueError("--saved_model_tags: only 'serve' is supported.")
    if not values["model_config_file"] and not values["model_base_path"]:
        raise ValueError("No model given; pass --model_base_path or --model_config_file.")
    if values["batching_parameters_file"]:
        path = Path(values["batching_parameters_file"])
        warnings += [
            f"{name} in {path} has no effect here: batches wait for no timer."
            for name in config.find_ignored_parameters(path)
        ]
    return _build_options(values), warnings


def format_usage() -> str:
    """Return the help text: one line per flag."""
    lines = [f"  --{name}={_format_default(default)}  {text}" for name, (default, text) in SUPPORTED.items()]
    lines += ["accepted without effect:", *(f"  --{name}  ({why})" for name, why in IGNORED.items())]
    lines += ["refused:", *(f"  --{name}  ({why})" for name, why in UNSUPPORTED.items())]
    return "\n".join(["usage: showcase-model-server --FLAG=VALUE ...", *lines])


def _split(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    given: dict[str, Any] = {}
    warnings, remaining = [], list(arguments)
    while remaining:
        name, equals, value = remaining.pop(0).removeprefix("--").partition("=")
        if name in UNSUPPORTED:
            raise ValueError(f"--{name} is not supported: {UNSUPPORTED[name]}.")
        if name not in SUPPORTED and name not in IGNORED:
            raise ValueError(f"Unknown flag --{name}; --help lists all flags.")
        boolean = name in SUPPORTED and isinstance(SUPPORTED[name][0], bool)
        if not equals and not boolean and remaining and not remaining[0].startswith("--"):
            equals, value = "=", remaining.pop(0)
        if name in IGNORED:
            warnings.append(f"--{name} has no effect here: {IGNORED[name]}.")
        else:
            given[name] = _parse_value(name, value if equals else "true")
    return given, warnings


def _parse_value(name: str, text: str) -> Any:
    expected_type = type(SUPPORTED[name][0])
    try:
        if expected_type is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        return expected_type(text)
    except (KeyError, ValueError):
        raise ValueError(
            f"--{name} takes {'true or false' if expected_type is bool else 'a whole number'}, not '{text}'."
        ) from None


def _build_options(values: dict[str, Any]) -> ServerOptions:
    batching = (
        config.read_batching(Path(values["batching_parameters_file"]))
        if values["batching_parameters_file"]
        else BatchingParameters()
    )
    monitoring = values["monitoring_config_file"]
    model = ModelConfig(values["model_name"], config.parse_path(values["model_base_path"]))
    return ServerOptions(
        models=() if values["model_config_file"] else (model,),
        host=values["host"],
        grpc_port=values["port"] or None,
        rest_port=values["rest_api_port"] or None,
        config_file=Path(config.parse_path(values["model_config_file"])) if values["model_config_file"] else None,
        config_poll=values["model_config_file_poll_wait_seconds"],
        batching=replace(batching, enabled=values["enable_batching"]),
        poll=values["file_system_poll_wait_seconds"],
        prefer_lite=values["prefer_tflite_model"],
        lite_raw=values["raw_by_tflite"],
        threads=values["tensorflow_intra_op_parallelism"]
        or values["tensorflow_session_parallelism"]
        or ServerOptions.threads,
        retries=values["max_num_load_retries"],
        retry_seconds=values["load_retry_interval_micros"] / 1e6,
        allow_unavailable_labels=values["allow_version_labels_for_unavailable_models"],
        warmup=values["enable_model_warmup"],
        metrics_path=config.read_metrics_path(Path(monitoring)) if monitoring else None,
        health=values["enable_grpc_healthcheck_service"],
        packed=values["enable_serialization_as_tensor_content"],
        rest_timeout=values["rest_api_timeout_in_ms"] / 1000,
        max_body=values["max_request_bytes"],
        max_inflight=values["max_inflight_bytes"],
        max_values=values["max_request_values"],
        grpc_options=_parse_channel_arguments(values["grpc_channel_arguments"]),
        drain_seconds=values["drain_seconds"],
    )


def _parse_channel_arguments(text: str) -> tuple[tuple[str, Any], ...]:
    options = []
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"--grpc_channel_arguments takes NAME=VALUE, not '{part}'.")
        options.append((name, int(value) if value.lstrip("-").isdigit() else value))
    return tuple(options)


def _format_default(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
