"""Entry point of the Trainer: from examples and a transform graph to an exported model."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import keras
import tensorflow as tf

from models.catalog import find_use_case
from models.input import Transform, batches, dataset, feed_from_store, fetch, fits_in_memory, list_shards, load, store
from models.network import build, predict
from models.rows import Rows, sample, specs
from models.saved_model import export
from models.training import callbacks, weight_digests
from models.training.distribute import cluster, strategies
from models.training.distribute.job import ClusterTask, TrainingJob
from models.training.loop import TrainingResult, TrainingSplits, TrainingStart, fit
from models.training.seeds import seed_everything

RESULT = "fit.json"
STORED, STORED_VALID = "train", "valid"
MAX_MEASURED_ROWS = 20_000  # maximum rows of the train split on which the final weights are measured


@dataclass(frozen=True)
class TrainingData:
    """Inputs of a job's training, export and record.

    Attributes:
        network: The case's model module.
        keep: Names of the network's input features, and of the label.
        features: Shapes and types of the transformed features.
        valid: The valid split in memory.
        graph: The transform graph; None where the rows were stored transformed.
    """

    network: Any
    keep: tuple[str, ...]
    features: Mapping[str, tf.TensorSpec]
    valid: Rows
    graph: Transform | None = None

    @property
    def transform(self) -> Transform:
        """The transform graph, which reading examples needs.

        Raises:
            ValueError: if the rows were stored transformed.
        """
        if self.graph is None:
            raise ValueError("These rows were stored transformed: there is no transform graph to read examples with.")
        return self.graph

    @classmethod
    def of(cls, job: TrainingJob) -> Self:
        """Load the transform graph and the valid split."""
        network, transform = find_use_case(job.case).load("model"), Transform(job.transform)
        keep = (*network.INPUTS, network.LABEL)
        return cls(
            network, keep, transform.features, load(list_shards(job.examples, "valid"), transform, keep), transform
        )

    @classmethod
    def from_store(cls, job: TrainingJob) -> Self:
        """Read what :func:`prepared` stored; a process of a cluster needs no transform graph."""
        network = find_use_case(job.case).load("model")
        valid = fetch(Path(job.folder, STORED_VALID), job.spec or {}, job.valid_rows)
        return cls(network, (*network.INPUTS, network.LABEL), specs(valid), valid)


def run_fn(fn_args: Any) -> None:
    """Entry point of TFX's Trainer: train on the train split, choose the operating point on valid, export.

    With a distribution strategy the training runs in separate processes: TensorFlow is initialised in this one already,
    and its devices and peers can no longer be configured. Writes ``training.json`` (curves, counts, settings) to the
    model run folder.
    """
    job = TrainingJob.of(fn_args)
    Path(job.folder).mkdir(parents=True, exist_ok=True)
    data = TrainingData.of(job)
    if job.settings["strategy"] == "none":
        train(job, data)
    else:
        cluster.run(store_splits(job, data))
    finish(job, data, Path(fn_args.serving_model_dir), Path(fn_args.model_run_dir))


def train(job: TrainingJob, data: TrainingData | None = None) -> None:
    """Train as this process's task in the job's strategy; the chief writes the best weights and the training record.

    Args:
        job: What to train.
        data: The job's data if it was read already; a process of a cluster reads it after its devices are set up.

    Raises:
        PreemptedError: after SIGTERM, with a checkpoint written.
        ValueError: if the settings are not compatible.
    """
    task = (
        ClusterTask.from_environment() if job.settings["strategy"] not in ("none", "mirrored", "tpu") else ClusterTask()
    )
    strategy = strategies.create(job.settings, task)
    seed_everything(job.settings)
    data = data or (TrainingData.from_store(job) if job.valid_rows else TrainingData.of(job))
    rows, feed = _create_feed(job, data)
    splits = TrainingSplits(data.features, rows, feed, data.valid)
    start = TrainingStart(Path(job.folder), job.pretrained, job.base, strategy, task)
    fitted = fit(data.network, job.settings, splits, start)
    if task.chief:
        _write_result(fitted, Path(job.folder))


def finish(job: TrainingJob, data: TrainingData, model_folder: Path, run_folder: Path) -> None:
    """Export the best weights from a float32 model, whatever precision they were trained in, and record the training."""
    network, transform, valid = data.network, data.transform, data.valid
    float32_settings = {**job.settings, "mixed_precision": False}
    model = build(network, float32_settings, transform.features, job.pretrained)
    model.load_weights(Path(job.folder, callbacks.BEST))
    logits = predict(model, valid)
    point = network.operating_point(job.settings, valid[network.LABEL], logits)
    export.save(str(model_folder), network, model, transform, point, job.settings)
    train_rows = dataset(list_shards(job.examples, "train"), transform, data.keep).as_numpy_iterator()
    record = {
        **json.loads(Path(job.folder, RESULT).read_text()),
        "parameters": model.count_params(),
        "weights": weight_digests.weights_digest(model),
        "settings": dict(job.settings),
        "operating_point": dict(point),
        "valid": network.quality(valid[network.LABEL], logits),
        "fit": measure_fit(
            network, job.settings, model, sample(train_rows, MAX_MEASURED_ROWS, job.settings["seed"]), valid
        ),
    }
    if job.settings["folds"]:
        from models.training.model_selection.cross_validation import cross_validate

        train_split = load(list_shards(job.examples, "train"), transform, data.keep)
        record["folds"] = cross_validate(network, job.settings, train_split, valid, job.pretrained)
    run_folder.mkdir(parents=True, exist_ok=True)
    (run_folder / "training.json").write_text(json.dumps(record, indent=1))
    for log in (Path(job.folder, "logs"), *Path(job.folder).glob("*.log")):
        if log.exists():
            os.replace(log, run_folder / log.name)
    shutil.rmtree(job.folder)  # so that a later run of the same inputs trains from scratch


def measure_fit(
    network: Any, settings: Mapping[str, Any], model: keras.Model, train: Rows, valid: Rows
) -> dict[str, Any]:
    """Measure the final weights on train (or a sample of it) and on valid, in inference mode, so that both are comparable.

    The loss of an epoch is not comparable: it is computed with dropout and augmentation on, while the weights change.

    Returns:
        The name of the monitored ``metric``, and for ``train`` and ``valid`` each ``rows``, ``loss`` (without
        penalties) and the network's metrics.

    Question: A14
    Answer: First detect it: plot both curves and measure the final weights in inference mode on train and validation.
        More data helps most; then augmentation, fewer parameters, dropout, L2 or weight decay, and early stopping.
        Measure each, because some cost more than they gain; on a small split use cross-validation. The trap is that
        every choice made on validation overfits it, so keep eval untouched. Here the gap is recorded for every run, and
        each remedy is measured.
    Evidence: tour.evidence.training.overfitting.regularization_methods
    Proof: tests/tour/evidence/test_overfitting.py::test_more_rows_narrow_the_gap
    """
    measurements: dict[str, Any] = {"metric": network.MONITOR}
    for split, rows in (("train", train), ("valid", valid)):
        logits, truth = predict(model, rows), rows[network.LABEL]
        loss = float(tf.reduce_mean(network.loss(settings)(truth, logits)))
        measurements[split] = {"rows": len(truth), "loss": loss, **network.quality(truth, logits)}
    return measurements


def store_splits(job: TrainingJob, data: TrainingData) -> TrainingJob:
    """Transform both splits once and store them, so that each process only reads them; return the job that refers to them."""
    paths = list_shards(job.examples, "train")
    if not fits_in_memory(paths):
        if job.settings["strategy"] == "parameter-server":
            raise ValueError(
                "parameter-server holds the train split in memory, and this one is too large: use multiworker."
            )
        return job
    rows = load(paths, data.transform, data.keep)
    spec = store(rows, Path(job.folder, STORED))
    store(data.valid, Path(job.folder, STORED_VALID))
    label = data.network.LABEL
    return replace(job, spec=spec, rows=len(rows[label]), valid_rows=len(data.valid[label]))


def _create_feed(job: TrainingJob, data: TrainingData) -> tuple[int, Any]:
    size, seed = job.settings["batch_size"], job.settings["seed"]
    if job.spec:
        return job.rows, feed_from_store(Path(job.folder, STORED), job.spec, job.rows, size, seed)
    return batches(list_shards(job.examples, "train"), data.transform, data.keep, size, seed)


def _write_result(fitted: TrainingResult, folder: Path) -> None:
    record = {
        "rows": fitted.rows,
        "batch_size": fitted.batch_size,
        "steps": fitted.steps,
        "best_epoch": fitted.best,
        "replicas": fitted.replicas,
        "trainable": fitted.trainable,
        "curves": fitted.curves,
        "journal": fitted.journal,
    }
    (folder / RESULT).write_text(json.dumps(record, indent=1))
