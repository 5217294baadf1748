"""Reads TensorFlow Serving's model config, batching and monitoring files into dataclasses."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving import bucket
from serving.server import config_messages

METRICS_PATH = "/monitoring/prometheus/metrics"
BATCHING_IGNORED = (
    "thread_pool_name",
    "batch_timeout_micros",
    "enable_large_batch_splitting",
    "max_execution_batch_size",
)
BATCHING_USED = ("max_batch_size", "max_enqueued_batches", "num_batch_threads", "allowed_batch_sizes")


@dataclass(frozen=True)
class ModelConfig:
    """A model to serve.

    Attributes:
        name: Model name in requests.
        base_path: Folder with one numbered folder per version.
        policy: Version policy: ``latest``, ``all`` or ``specific``.
        latest: Number of newest versions that policy ``latest`` serves.
        specific: Version numbers that policy ``specific`` serves.
        labels: Version number by label.
    """

    name: str
    base_path: str
    policy: str = "latest"
    latest: int = 1
    specific: tuple[int, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)

    def select_versions(self, available: Sequence[int]) -> list[int]:
        """Return the available versions that the version policy selects, in ascending order."""
        if self.policy == "all":
            return sorted(available)
        if self.policy == "specific":
            return sorted(set(available) & set(self.specific))
        return sorted(available)[-self.latest :]


@dataclass(frozen=True)
class BatchingParameters:
    """Batching parameters.

    Attributes:
        enabled: False runs each request by itself.
        max_batch_size: Largest batch, in rows.
        sizes: Allowed batch sizes to pad to; empty for powers of two.
        max_enqueued_batches: Full batches that may wait in the queue; further requests are refused as UNAVAILABLE.
        threads: Batches that run in parallel; 0 for one per core except one core, which is left to the event loop.
    """

    enabled: bool = True
    max_batch_size: int = 64
    sizes: tuple[int, ...] = ()
    max_enqueued_batches: int = 64
    threads: int = 0

    def padded_size(self, rows: int) -> int:
        """Return the size to which a batch of that many rows is padded."""
        if rows >= self.max_batch_size:
            return rows
        if self.sizes:
            return next((size for size in self.sizes if size >= rows), rows)
        return min(self.max_batch_size, 1 << (rows - 1).bit_length())


def read_content(path: Path) -> bytes:
    """Read a file, which is downloaded first if it is in a bucket.

    Raises:
        OSError: if it cannot be read, or the bucket does not answer.
    """
    bucket.pull_file(path)
    return path.read_bytes()


def read_models(path: Path) -> list[ModelConfig] | None:
    """Read the models of a ``ModelServerConfig`` file; None if it sets no config, which changes nothing.

    Raises:
        ValueError: if the file is invalid; the message names the line or the model.
    """
    from tensorflow_serving.config import model_server_config_pb2

    parsed = _parse_file(path, "model config", model_server_config_pb2.ModelServerConfig())
    if parsed.WhichOneof("config") is None:
        return None
    try:
        return models_from_proto(parsed)
    except ValueError as error:
        raise ValueError(f"The model config file {path}: {error}") from None


def models_from_proto(config: Any) -> list[ModelConfig]:
    """Convert a ``ModelServerConfig`` message to models.

    Raises:
        ValueError: if a field is missing, a model is listed twice, or a setting is not supported.
    """
    if config.WhichOneof("config") == "custom_model_config":
        raise ValueError("custom_model_config is not supported; use model_config_list.")
    served = [_model(model) for model in config.model_config_list.config]
    for name, count in Counter(model.name for model in served).items():
        if count > 1:
            raise ValueError(f"Illegal to list model {name} multiple times in config list")
    return served


def _model(model: Any) -> ModelConfig:
    if not model.name or not model.base_path:
        raise ValueError("Expected model to have a name and a base_path.")
    if model.model_platform not in ("", "tensorflow"):
        raise ValueError(f"model_platform '{model.model_platform}' of {model.name} is not supported; use 'tensorflow'.")
    base_path = parse_path(model.base_path)
    policy, kind = model.model_version_policy, model.model_version_policy.WhichOneof("policy_choice") or "latest"
    if kind == "specific" and not policy.specific.versions:
        raise ValueError(f"The specific version policy of {model.name} names no version; add at least one.")
    return ModelConfig(
        name=model.name,
        base_path=base_path,
        policy=kind,
        latest=policy.latest.num_versions or 1,
        specific=tuple(policy.specific.versions),
        labels=dict(model.version_labels),
    )


def parse_path(text: str) -> str:
    """Return a path as it is, and for ``s3://BUCKET/FOLDER`` or ``gs://BUCKET/FOLDER`` that of the working copy.

    Raises:
        ValueError: for a URI of another kind, or one without a bucket.
    """
    return str(bucket.working_copy(text)) if "://" in text else text


def read_batching(path: Path) -> BatchingParameters:
    """Read a ``BatchingParameters`` file.

    Raises:
        ValueError: if the file is invalid or sets a parameter that is not supported; the message names it.
    """
    values = _read_parameters(path)
    unknown = [name for name in values if name not in (*BATCHING_USED, *BATCHING_IGNORED)]
    if unknown:
        raise ValueError(f"The batching parameters file {path}: {unknown[0]} is not supported.")
    sizes = tuple(values.get("allowed_batch_sizes", ()))
    max_batch_size = values.get("max_batch_size", sizes[-1] if sizes else BatchingParameters.max_batch_size)
    if max_batch_size < 1 or list(sizes) != sorted(set(sizes)) or (sizes and sizes[-1] != max_batch_size):
        raise ValueError(
            f"The batching parameters file {path}: allowed_batch_sizes must increase up to max_batch_size ({max_batch_size})."
        )
    return BatchingParameters(
        enabled=True,
        max_batch_size=max_batch_size,
        sizes=sizes,
        max_enqueued_batches=values.get("max_enqueued_batches", BatchingParameters.max_enqueued_batches),
        threads=values.get("num_batch_threads", BatchingParameters.threads),
    )


def find_ignored_parameters(path: Path) -> list[str]:
    """Return the parameters in a batching parameters file that have no effect, as batches wait for no timer."""
    return [name for name in _read_parameters(path) if name in BATCHING_IGNORED]


def _read_parameters(path: Path) -> dict[str, Any]:
    """Return the parameters that a batching parameters file sets, by name."""
    fields = _parse_file(path, "batching parameters", config_messages.create_message("BatchingParameters")).ListFields()
    return {field.name: getattr(value, "value", value) for field, value in fields}


def read_metrics_path(path: Path) -> str | None:
    """Read the URL path of the metrics from a ``MonitoringConfig`` file; None if metrics are disabled.

    Raises:
        ValueError: if the file is invalid.
    """
    parsed = _parse_file(path, "monitoring config", config_messages.create_message("MonitoringConfig"))
    prometheus = parsed.prometheus_config
    return (prometheus.path or METRICS_PATH) if prometheus.enable else None


def _parse_file(path: Path, what: str, message: Any) -> Any:
    """Fill a message from a file in Protobuf's text format and return it.

    Raises:
        ValueError: if the file cannot be read or is not such a message; the message names the line.
    """
    from google.protobuf import text_format

    try:
        return text_format.Parse(path.read_text(), message)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"The {what} file {path} cannot be read: {reason}.") from None
    except text_format.ParseError as error:
        raise ValueError(f"The {what} file {path} is not a {message.DESCRIPTOR.name}: line {error}.") from None
