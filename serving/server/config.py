"""What to serve and how: TensorFlow Serving's model config, batching and monitoring files, as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving.server import text_format

METRICS_PATH = "/monitoring/prometheus/metrics"
BATCHING_IGNORED = (
    "thread_pool_name",
    "batch_timeout_micros",
    "enable_large_batch_splitting",
    "max_execution_batch_size",
)
BATCHING_USED = ("max_batch_size", "max_enqueued_batches", "num_batch_threads", "allowed_batch_sizes")


@dataclass(frozen=True)
class Model:
    """A model to serve.

    Attributes:
        name: What clients call it.
        base_path: Folder with a numbered folder a version.
        policy: ``latest``, ``all`` or ``specific``.
        latest: How many of the newest versions, under ``latest``.
        specific: Which versions, under ``specific``.
        labels: Version by label.
    """

    name: str
    base_path: str
    policy: str = "latest"
    latest: int = 1
    specific: tuple[int, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)

    def wanted(self, found: Sequence[int]) -> list[int]:
        """Those of the versions found that the policy asks for."""
        if self.policy == "all":
            return sorted(found)
        if self.policy == "specific":
            return sorted(set(found) & set(self.specific))
        return sorted(found)[-self.latest :]


@dataclass(frozen=True)
class Batching:
    """How requests are run together.

    Attributes:
        enabled: Whether they are; False runs each request by itself.
        most: Rows of a batch.
        sizes: Sizes to pad to; empty for powers of two.
        enqueued: Full batches that may wait; more is refused as unavailable.
        threads: Batches that run side by side; 0 for one a core, and one core left to the event loop.
    """

    enabled: bool = True
    most: int = 64
    sizes: tuple[int, ...] = ()
    enqueued: int = 64
    threads: int = 0

    def padded(self, rows: int) -> int:
        """The size that a batch of so many rows is filled up to."""
        if rows >= self.most:
            return rows
        if self.sizes:
            return next((size for size in self.sizes if size >= rows), rows)
        return min(self.most, 1 << (rows - 1).bit_length())


def models(path: Path) -> list[Model]:
    """The models of a ``ModelServerConfig`` file.

    Raises:
        ValueError: if it is not one, saying where.
    """
    from google.protobuf import text_format as protobuf
    from tensorflow_serving.config import model_server_config_pb2

    config = model_server_config_pb2.ModelServerConfig()
    try:
        protobuf.Parse(_read(path, "model config"), config)
        return from_proto(config)
    except protobuf.ParseError as error:
        raise ValueError(f"The model config file {path} is not a ModelServerConfig: {error}.") from None
    except ValueError as error:
        raise ValueError(f"The model config file {path}: {error}") from None


def from_proto(config: Any) -> list[Model]:
    """The models of a ``ModelServerConfig``.

    Raises:
        ValueError: if something in it is missing, twice, or not supported.
    """
    if config.WhichOneof("config") == "custom_model_config":
        raise ValueError("custom_model_config is not supported; model_config_list is.")
    found = [_model(one) for one in config.model_config_list.config]
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"Illegal to list model {name} multiple times in config list")
    return found


def _model(one: Any) -> Model:
    if not one.name or not one.base_path:
        raise ValueError("Expected model to have a name and a base_path.")
    if one.model_platform not in ("", "tensorflow"):
        raise ValueError(f"model_platform '{one.model_platform}' of {one.name} is not supported; tensorflow is.")
    if "://" in one.base_path:
        raise ValueError(f"base_path '{one.base_path}' of {one.name} is not a local folder.")
    policy, kind = one.model_version_policy, one.model_version_policy.WhichOneof("policy_choice") or "latest"
    if kind == "specific" and not policy.specific.versions:
        raise ValueError(f"The specific version policy of {one.name} names no version.")
    return Model(
        one.name,
        one.base_path,
        kind,
        policy.latest.num_versions or 1,
        tuple(policy.specific.versions),
        dict(one.version_labels),
    )


def batching(path: Path) -> Batching:
    """A ``BatchingParameters`` file.

    Raises:
        ValueError: if it is not one, or asks for what is not supported, by name.
    """
    told = _parsed(path, "batching parameters")
    unknown = [name for name in told if name not in (*BATCHING_USED, *BATCHING_IGNORED)]
    if unknown:
        raise ValueError(f"The batching parameters file {path}: {unknown[0]} is not supported.")
    plain = {name: value["value"] if isinstance(value, dict) else value for name, value in told.items()}
    sizes = plain.get("allowed_batch_sizes", ())
    sizes = tuple(sizes) if isinstance(sizes, list) else (sizes,) if sizes else ()
    most = int(plain.get("max_batch_size", sizes[-1] if sizes else Batching.most))
    if most < 1 or list(sizes) != sorted(set(sizes)) or (sizes and sizes[-1] != most):
        raise ValueError(
            f"The batching parameters file {path}: allowed_batch_sizes have to rise up to max_batch_size, which is {most}."
        )
    return Batching(
        True,
        most,
        sizes,
        int(plain.get("max_enqueued_batches", Batching.enqueued)),
        int(plain.get("num_batch_threads", 0)),
    )


def ignored(path: Path) -> list[str]:
    """Names in a batching parameters file that mean nothing here: there is no timer to set."""
    return [name for name in _parsed(path, "batching parameters") if name in BATCHING_IGNORED]


def monitoring(path: Path) -> str | None:
    """Where metrics are answered according to a ``MonitoringConfig`` file; None for nowhere.

    Raises:
        ValueError: if it is not one.
    """
    told = _parsed(path, "monitoring config").get("prometheus_config", {})
    if not isinstance(told, dict) or set(told) - {"enable", "path"}:
        raise ValueError(f"The monitoring config file {path}: prometheus_config takes enable and path.")
    return str(told.get("path") or METRICS_PATH) if told.get("enable") else None


def _parsed(path: Path, what: str) -> dict[str, Any]:
    try:
        return text_format.parse(_read(path, what))
    except ValueError as error:
        raise ValueError(f"The {what} file {path}: {error}.") from None


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise ValueError(f"The {what} file {path} cannot be read: {error.strerror}.") from None
