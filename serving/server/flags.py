"""The flags of ``tensorflow_model_server``: which are followed, which mean nothing here, and which are refused."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from serving.server import config
from serving.server.app import Options
from serving.server.config import Batching, Model

# Name: default, which also says the type; and what it does.
FOLLOWED: dict[str, tuple[Any, str]] = {
    "port": (8500, "Port of gRPC; 0 for none."),
    "rest_api_port": (0, "Port of REST; 0 for none."),
    "host": ("0.0.0.0", "Address to listen on (not a flag of tensorflow_model_server)."),
    "model_name": ("default", "Name of the model; ignored with a model config file."),
    "model_base_path": ("", "Folder of its versions; ignored with a model config file."),
    "model_config_file": ("", "File with a ModelServerConfig."),
    "model_config_file_poll_wait_seconds": (0, "Seconds between looks at it; 0 for never."),
    "file_system_poll_wait_seconds": (1, "Seconds between looks for versions; 0 for once, negative for never."),
    "enable_batching": (True, "Run rows of several requests together; on here by default."),
    "batching_parameters_file": ("", "File with BatchingParameters."),
    "monitoring_config_file": ("", "File with a MonitoringConfig."),
    "rest_api_timeout_in_ms": (30000, "Milliseconds for a REST request."),
    "max_request_bytes": (64 << 20, "Bytes of a request (not a flag of tensorflow_model_server)."),
    "drain_seconds": (20, "Seconds for requests under way at the end (not a flag of tensorflow_model_server)."),
    "max_num_load_retries": (5, "How often a version that did not load is tried again."),
    "load_retry_interval_micros": (60_000_000, "Microseconds between."),
    "tensorflow_session_parallelism": (0, "Threads inside an operation; 0 for one thread."),
    "tensorflow_intra_op_parallelism": (0, "The same."),
    "grpc_channel_arguments": ("", "NAME=VALUE, comma-separated."),
    "allow_version_labels_for_unavailable_models": (False, "Labels may name versions that are not loaded."),
    "enable_model_warmup": (True, "Run the model's warm-up requests before it serves."),
    "prefer_tflite_model": (False, "Let model.tflite answer the signatures it has."),
    "enable_serialization_as_tensor_content": (False, "Answer tensors as bytes."),
    "enable_grpc_healthcheck_service": (True, "Answer gRPC health."),
    "saved_model_tags": ("serve", "Only 'serve' is supported."),
}
IGNORED = {
    "tensorflow_inter_op_parallelism": "operations run on the calling thread",
    "rest_api_num_threads": "one event loop serves REST",
    "grpc_max_threads": "one event loop serves gRPC",
    "num_load_threads": "models load one after the other",
    "num_unload_threads": "models are unloaded as they drain",
    "flush_filesystem_caches": "files are read once",
    "num_request_iterations_for_warmup": "each warm-up request runs once at every batch size",
    "num_tflite_pools": "there is an interpreter a thread",
    "num_tflite_interpreters_per_pool": "there is an interpreter a thread",
    "remove_unused_fields_from_bundle_metagraph": "the graph is always let go of",
    "enable_signature_method_name_check": "names are always checked",
    "enable_per_model_metrics": "metrics are always by model",
    "per_process_gpu_memory_fraction": "no GPU is used",
    "enable_profiler": "profiles are taken by showcase ask B19 --prove",
}
REFUSED = {
    "ssl_config_file": "put a proxy in front for TLS",
    "platform_config_file": "only SavedModels are served",
    "grpc_socket_path": "gRPC listens on a port",
    "rest_api_enable_cors_support": "put a proxy in front for CORS",
    "thread_pool_factory_config_file": "there are no such pools",
    "xla_cpu_compilation_enabled": "graphs run as they are",
    "mixed_precision": "graphs run as they are",
    "use_alts_credentials": "it is for Google's own network",
    "skip_initialize_tpu": "no TPU is used",
}


def parse(words: Sequence[str]) -> tuple[Options, list[str]]:
    """Options, and sentences of warning.

    Raises:
        ValueError: for a flag that is unknown, refused, or has a value that it cannot have; naming it.
    """
    given, warnings = _split(words)
    told = {name: default for name, (default, _) in FOLLOWED.items()} | given
    if told["saved_model_tags"] != "serve":
        raise ValueError("--saved_model_tags: only 'serve' is supported.")
    if not told["model_config_file"] and not told["model_base_path"]:
        raise ValueError("--model_base_path or --model_config_file is needed.")
    if told["batching_parameters_file"]:
        path = Path(told["batching_parameters_file"])
        warnings += [
            f"{name} in {path} means nothing here: batches wait for no timer." for name in config.ignored(path)
        ]
    return _options(told), warnings


def usage() -> str:
    """All flags, a line each."""
    lines = [f"  --{name}={_shown(default)}  {text}" for name, (default, text) in FOLLOWED.items()]
    lines += ["taken, and without effect here:", *(f"  --{name}  ({why})" for name, why in IGNORED.items())]
    lines += ["refused:", *(f"  --{name}  ({why})" for name, why in REFUSED.items())]
    return "\n".join(["usage: showcase-model-server --FLAG=VALUE ...", *lines])


def _split(words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    given: dict[str, Any] = {}
    warnings, waiting = [], list(words)
    while waiting:
        name, equals, value = waiting.pop(0).removeprefix("--").partition("=")
        if name in REFUSED:
            raise ValueError(f"--{name} is not supported: {REFUSED[name]}.")
        if name not in FOLLOWED and name not in IGNORED:
            raise ValueError(f"Unknown flag --{name}; --help lists all.")
        boolean = name in FOLLOWED and isinstance(FOLLOWED[name][0], bool)
        if not equals and not boolean and waiting and not waiting[0].startswith("--"):
            equals, value = "=", waiting.pop(0)
        if name in IGNORED:
            warnings.append(f"--{name} has no effect here: {IGNORED[name]}.")
        else:
            given[name] = _value(name, value if equals else "true")
    return given, warnings


def _value(name: str, text: str) -> Any:
    kind = type(FOLLOWED[name][0])
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        return kind(text)
    except (KeyError, ValueError):
        raise ValueError(
            f"--{name} takes {'true or false' if kind is bool else 'a whole number'}, not '{text}'."
        ) from None


def _options(told: dict[str, Any]) -> Options:
    batching = (
        config.batching(Path(told["batching_parameters_file"])) if told["batching_parameters_file"] else Batching()
    )
    monitoring = told["monitoring_config_file"]
    model = Model(told["model_name"], told["model_base_path"])
    if "://" in model.base_path:
        raise ValueError(f"--model_base_path '{model.base_path}' is not a local folder.")
    return Options(
        models=() if told["model_config_file"] else (model,),
        host=told["host"],
        grpc_port=told["port"] or None,
        rest_port=told["rest_api_port"] or None,
        config_file=Path(told["model_config_file"]) if told["model_config_file"] else None,
        config_poll=told["model_config_file_poll_wait_seconds"],
        batching=replace(batching, enabled=told["enable_batching"]),
        poll=told["file_system_poll_wait_seconds"],
        prefer_lite=told["prefer_tflite_model"],
        threads=told["tensorflow_intra_op_parallelism"] or told["tensorflow_session_parallelism"] or Options.threads,
        retries=told["max_num_load_retries"],
        retry_seconds=told["load_retry_interval_micros"] / 1e6,
        free_labels=told["allow_version_labels_for_unavailable_models"],
        warmup=told["enable_model_warmup"],
        metrics_path=config.monitoring(Path(monitoring)) if monitoring else None,
        health=told["enable_grpc_healthcheck_service"],
        packed=told["enable_serialization_as_tensor_content"],
        rest_timeout=told["rest_api_timeout_in_ms"] / 1000,
        max_body=told["max_request_bytes"],
        grpc_options=_channel(told["grpc_channel_arguments"]),
        drain_seconds=told["drain_seconds"],
    )


def _channel(text: str) -> tuple[tuple[str, Any], ...]:
    found = []
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"--grpc_channel_arguments takes NAME=VALUE, not '{part}'.")
        found.append((name, int(value) if value.lstrip("-").isdigit() else value))
    return tuple(found)


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
