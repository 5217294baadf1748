"""From examples and a transform graph to an exported model: what the Trainer runs."""

import json
import os
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models import callbacks, cluster, export, strategies
from models.catalog import find
from models.input import Transform, batches, files, fits, load, store, stored
from models.loop import Fit, build, fit, predict

RESULT = "fit.json"
STORED = "train"


@dataclass(frozen=True)
class Job:
    """One training as plain values, so that another process can be told of it.

    Attributes:
        case: Name of the use case.
        settings: Its training and data settings.
        examples: Folder of the examples, a folder a split in it.
        transform: Folder of the transform graph.
        folder: Scratch that outlives a killed attempt: checkpoints, best weights, event files.
        pretrained: Folder of weights that a stage before learnt; empty for none.
        spec: Type and shape of what was stored of the train split for other processes; empty where they read examples.
        rows: Examples of the train split, where it was stored.
    """

    case: str
    settings: Mapping[str, Any]
    examples: str
    transform: str
    folder: str
    pretrained: str = ""
    spec: Mapping[str, Any] | None = None
    rows: int = 0

    @classmethod
    def of(cls, fn_args: Any) -> "Job":
        """What TFX's Trainer tells. The same inputs get the same scratch folder, so a killed attempt is gone on with."""
        config = fn_args.custom_config
        told = [config, fn_args.transform_graph_path, sorted(fn_args.train_files)]
        key = sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
        return cls(
            case=config["case"],
            settings=config["settings"],
            examples=str(Path(fn_args.train_files[0]).parent.parent),
            transform=fn_args.transform_graph_path,
            folder=str(Path(fn_args.model_run_dir).parents[1] / "training" / key),
            pretrained=config.get("pretrained", ""),
        )

    def save(self, path: Path) -> Path:
        """Writes the job as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1))
        return path

    @classmethod
    def read(cls, path: Path) -> "Job":
        """The reverse of :meth:`save`."""
        return cls(**json.loads(path.read_text()))


def run_fn(fn_args: Any) -> None:
    """Entry point of TFX's Trainer: trains on the train split, picks the operating point on valid, exports.

    With a strategy the training itself happens in processes of its own: TensorFlow is initialised here already, and can
    no longer be told of devices or peers. Leaves ``training.json`` (curves, counts, settings) in the model run folder.
    """
    job = Job.of(fn_args)
    Path(job.folder).mkdir(parents=True, exist_ok=True)
    seed_everything(job.settings)
    if job.settings["strategy"] == "none":
        train(job)
    else:
        cluster.run(_prepared(job))
    finish(job, Path(fn_args.serving_model_dir), Path(fn_args.model_run_dir))


def seed_everything(settings: Mapping[str, Any]) -> None:
    """One seed for Python, NumPy, Keras and TensorFlow; with ``deterministic`` equal bits too, at a price.

    The switch cannot be taken back within a process.
    """
    random.seed(settings["seed"])
    np.random.seed(settings["seed"])
    keras.utils.set_random_seed(settings["seed"])
    if settings["deterministic"]:
        tf.config.experimental.enable_op_determinism()


def train(job: Job) -> None:
    """Trains as this process's task in the job's strategy; the chief leaves the best weights and what happened.

    Raises:
        Preempted: after SIGTERM, with a checkpoint written.
        ValueError: if the switches do not go together.
    """
    task = strategies.Task.here() if job.settings["strategy"] not in ("none", "mirrored", "tpu") else strategies.Task()
    strategy = strategies.create(job.settings, task)
    seed_everything(job.settings)
    network, transform = find(job.case).load("model"), Transform(job.transform)
    keep = (*network.INPUTS, network.LABEL)
    valid = load(files(job.examples, "valid"), transform, keep)
    rows, feed = _feed(job, transform, keep)
    fitted = fit(
        network, job.settings, transform.features, feed, rows, valid, Path(job.folder), job.pretrained, strategy, task
    )
    if task.chief:
        _leave(fitted, Path(job.folder))


def finish(job: Job, model_folder: Path, run_folder: Path) -> None:
    """Exports the best weights from a plain float32 model, whatever they were trained under, and records the training."""
    network, transform = find(job.case).load("model"), Transform(job.transform)
    valid = load(files(job.examples, "valid"), transform, (*network.INPUTS, network.LABEL))
    plain = {**job.settings, "mixed_precision": False}
    model = build(network, plain, transform.features, job.pretrained)
    model.load_weights(Path(job.folder, callbacks.BEST))
    logits = predict(model, valid)
    point = network.operating_point(job.settings, valid[network.LABEL], logits)
    export.save(str(model_folder), network, model, transform, point, job.settings)
    record = {
        **json.loads(Path(job.folder, RESULT).read_text()), "parameters": model.count_params(),
        "settings": dict(job.settings), "operating_point": dict(point),
        "valid": network.quality(valid[network.LABEL], logits),
    }  # fmt: skip
    run_folder.mkdir(parents=True, exist_ok=True)
    (run_folder / "training.json").write_text(json.dumps(record, indent=1))
    logs = Path(job.folder, "logs")
    if logs.is_dir():
        os.replace(logs, run_folder / "logs")


def _prepared(job: Job) -> Job:
    """The job with the train split transformed once and stored, so that each process only has to read it."""
    network, transform = find(job.case).load("model"), Transform(job.transform)
    paths = files(job.examples, "train")
    if not fits(paths):
        if job.settings["strategy"] == "parameter-server":
            raise ValueError("parameter-server keeps the train split in memory, and this one is too large: use multiworker.")
        return job
    rows = load(paths, transform, (*network.INPUTS, network.LABEL))
    spec = store(rows, Path(job.folder, STORED))
    return Job(**{**asdict(job), "spec": spec, "rows": len(rows[network.LABEL])})


def _feed(job: Job, transform: Transform, keep: tuple[str, ...]) -> tuple[int, Any]:
    size, seed = job.settings["batch_size"], job.settings["seed"]
    if job.spec:
        return job.rows, stored(Path(job.folder, STORED), job.spec, job.rows, size, seed)
    return batches(files(job.examples, "train"), transform, keep, size, seed)


def _leave(fitted: Fit, folder: Path) -> None:
    record = {
        "rows": fitted.rows, "batch_size": fitted.batch_size, "steps": fitted.steps, "best_epoch": fitted.best,
        "replicas": fitted.replicas, "curves": fitted.curves, "journal": fitted.journal,
    }  # fmt: skip
    (folder / RESULT).write_text(json.dumps(record, indent=1))
