"""The job that a training process reads, and its task in the cluster.

This module does not import TensorFlow, so that the process that launches the workers starts quickly and stays small.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

# Exit codes of the process that runs a job.
PREEMPTED = 42  # stopped after SIGTERM, with a checkpoint
ADDRESS_IN_USE = 43  # the task's address is in use
INVALID_SETTINGS = 44  # the settings are not compatible
INDEX, WORKERS = "JOB_COMPLETION_INDEX", "WORKERS"


@dataclass(frozen=True)
class TrainingJob:
    """One training job as plain values, which another process can read from a file.

    Attributes:
        case: Name of the use case.
        settings: Its training and data settings.
        examples: Folder of the examples, with a folder for each split.
        transform: Folder of the transform graph.
        folder: Scratch folder that survives a killed attempt: checkpoints, best weights, event files.
        pretrained: Folder of weights that an earlier stage learned; empty for none.
        base: File of the served model's weights, to refresh it with LoRA; empty to train from scratch.
        spec: Type and shape of the transformed features that were stored for other processes; empty if they read
            examples.
        rows: Number of examples of the stored train split.
        valid_rows: Number of examples of the stored valid split.
    """

    case: str
    settings: Mapping[str, Any]
    examples: str
    transform: str
    folder: str
    pretrained: str = ""
    base: str = ""
    spec: Mapping[str, Any] | None = None
    rows: int = 0
    valid_rows: int = 0

    @classmethod
    def of(cls, fn_args: Any) -> Self:
        """Create the job from the arguments of TFX's Trainer.

        The same inputs, settings and code (``custom_config["code"]``, its digest) get the same scratch folder, so that
        training resumes from the checkpoint of a killed attempt.
        """
        config = fn_args.custom_config
        # The embedding's path changes with every attempt, its content does not.
        stable = {name: value for name, value in config.items() if name != "pretrained"}
        inputs = [stable, fn_args.hyperparameters, fn_args.transform_graph_path, sorted(fn_args.train_files)]
        key = sha256(json.dumps(inputs, sort_keys=True).encode())
        return cls(
            case=config["case"],
            settings=apply_tuning(config["settings"], fn_args.hyperparameters),
            examples=str(Path(fn_args.train_files[0]).parent.parent),
            transform=fn_args.transform_graph_path,
            folder=str(Path(fn_args.model_run_dir).parents[1] / "training" / key.hexdigest()[:16]),
            pretrained=config.get("pretrained", ""),
            base=config.get("base", ""),
        )

    def save(self, path: Path) -> Path:
        path.write_text(json.dumps(asdict(self), indent=1))
        return path

    @classmethod
    def read(cls, path: Path) -> Self:
        return cls(**json.loads(path.read_text()))


def apply_tuning(settings: Mapping[str, Any], best: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the settings with the Tuner's best values; ``best`` is a KerasTuner configuration, None without a Tuner."""
    return {**settings, **(best["values"] if best else {})}


@dataclass(frozen=True)
class ClusterTask:
    """The task of this process in a cluster, from ``TF_CONFIG``; without that variable it is the only process.

    Attributes:
        kind: ``chief``, ``worker`` or ``ps``.
        index: Its index among the tasks of its kind.
        cluster: Addresses by kind.
    """

    kind: str = "chief"
    index: int = 0
    cluster: Mapping[str, list[str]] | None = None

    @classmethod
    def from_environment(cls) -> Self:
        """Read the task from the environment.

        Raises:
            ValueError: if ``TF_CONFIG`` is set and not in TensorFlow's format.
        """
        try:
            config = json.loads(os.environ.get("TF_CONFIG") or "{}")
            return cls(config["task"]["type"], int(config["task"]["index"]), config["cluster"]) if config else cls()
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"TF_CONFIG needs 'cluster' and 'task' with 'type' and 'index': {error!r}.") from None

    @property
    def chief(self) -> bool:
        """Whether this process writes checkpoints and the result: the chief, or worker 0 where there is none."""
        return self.kind == "chief" or (
            self.kind == "worker" and self.index == 0 and "chief" not in (self.cluster or {})
        )

    def count(self, kind: str) -> int:
        return len((self.cluster or {}).get(kind, []))


def build_tf_config(environment: Mapping[str, str]) -> dict[str, str]:
    """Build ``TF_CONFIG`` in a pod of a Kubernetes Indexed Job, whose index selects its address in ``WORKERS``.

    Returns:
        Variables to add to the environment; none if ``TF_CONFIG`` is set already, as a TFJob does, or there is no
        index.

    Raises:
        ValueError: if there is an index and ``WORKERS`` has no address for it.
    """
    if "TF_CONFIG" in environment or INDEX not in environment:
        return {}
    workers = [address.strip() for address in environment.get(WORKERS, "").split(",") if address.strip()]
    index = environment[INDEX]
    if not index.isdigit() or int(index) >= len(workers):
        raise ValueError(
            f"{INDEX} is {index}, but {WORKERS} has {len(workers)} addresses; list one HOST:PORT for each pod."
        )
    tf_config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": int(index)}}
    return {"TF_CONFIG": json.dumps(tf_config)}


SINGLE_TASK = ClusterTask()
