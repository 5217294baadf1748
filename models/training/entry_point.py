"""From examples and a transform graph to an exported model: what the Trainer runs."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from models.catalog import find
from models.input import Transform, batches, dataset, fetch, files, fits, load, store, stored
from models.network import build, predict
from models.rows import Rows, sample, specs
from models.saved_model import export
from models.training import callbacks, weight_digests
from models.training.distribute import cluster, strategies
from models.training.distribute.job import Job, Task
from models.training.loop import Fit, fit
from models.training.seeds import seed_everything

RESULT = "fit.json"
STORED, STORED_VALID = "train", "valid"
MEASURED = 20_000  # rows of the train split that the kept weights are measured on


@dataclass(frozen=True)
class Data:
    """What a job's training, its export and its record look at.

    Attributes:
        network: The case's model module.
        keep: Names of the features that the network takes, and of the label.
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
        """The transform graph, for those who read examples.

        Raises:
            ValueError: if the rows were stored transformed.
        """
        if self.graph is None:
            raise ValueError("These rows were stored transformed: there is no transform graph to read examples with.")
        return self.graph

    @classmethod
    def of(cls, job: Job) -> "Data":
        """Reads the transform graph and the valid split."""
        network, transform = find(job.case).load("model"), Transform(job.transform)
        keep = (*network.INPUTS, network.LABEL)
        return cls(network, keep, transform.features, load(files(job.examples, "valid"), transform, keep), transform)

    @classmethod
    def stored(cls, job: Job) -> "Data":
        """Reads what :func:`prepared` has stored: a process of a cluster needs no transform graph."""
        network = find(job.case).load("model")
        valid = fetch(Path(job.folder, STORED_VALID), job.spec or {}, job.valid_rows)
        return cls(network, (*network.INPUTS, network.LABEL), specs(valid), valid)


def run_fn(fn_args: Any) -> None:
    """Entry point of TFX's Trainer: trains on the train split, picks the operating point on valid, exports.

    With a strategy the training itself happens in processes of its own: TensorFlow is initialised here already, and can
    no longer be told of devices or peers. Leaves ``training.json`` (curves, counts, settings) in the model run folder.
    """
    job = Job.of(fn_args)
    Path(job.folder).mkdir(parents=True, exist_ok=True)
    data = Data.of(job)
    if job.settings["strategy"] == "none":
        train(job, data)
    else:
        cluster.run(prepared(job, data))
    finish(job, data, Path(fn_args.serving_model_dir), Path(fn_args.model_run_dir))


def train(job: Job, data: Data | None = None) -> None:
    """Trains as this process's task in the job's strategy; the chief leaves the best weights and what happened.

    Args:
        job: What to train.
        data: What was read of it already; a process of a cluster reads it itself, once its devices are set up.

    Raises:
        Preempted: after SIGTERM, with a checkpoint written.
        ValueError: if the switches do not go together.
    """
    task = Task.here() if job.settings["strategy"] not in ("none", "mirrored", "tpu") else Task()
    strategy = strategies.create(job.settings, task)
    seed_everything(job.settings)
    data = data or (Data.stored(job) if job.valid_rows else Data.of(job))
    rows, feed = _feed(job, data)
    fitted = fit(
        data.network,
        job.settings,
        data.features,
        feed,
        rows,
        data.valid,
        Path(job.folder),
        job.pretrained,
        job.base,
        strategy,
        task,
    )
    if task.chief:
        _leave(fitted, Path(job.folder))


def finish(job: Job, data: Data, model_folder: Path, run_folder: Path) -> None:
    """Exports the best weights from a plain float32 model, whatever they were trained under, and records the training."""
    network, transform, valid = data.network, data.transform, data.valid
    plain = {**job.settings, "mixed_precision": False}
    model = build(network, plain, transform.features, job.pretrained)
    model.load_weights(Path(job.folder, callbacks.BEST))
    logits = predict(model, valid)
    point = network.operating_point(job.settings, valid[network.LABEL], logits)
    export.save(str(model_folder), network, model, transform, point, job.settings)
    seen = dataset(files(job.examples, "train"), transform, data.keep).as_numpy_iterator()
    record = {
        **json.loads(Path(job.folder, RESULT).read_text()),
        "parameters": model.count_params(),
        "weights": weight_digests.weights_digest(model),
        "settings": dict(job.settings),
        "operating_point": dict(point),
        "valid": network.quality(valid[network.LABEL], logits),
        "fit": measured(network, job.settings, model, sample(seen, MEASURED, job.settings["seed"]), valid),
    }
    if job.settings["folds"]:
        from models.training.cross_validation import (
            cross_validate,  # scikit-learn is imported only where folds are asked for
        )

        whole = load(files(job.examples, "train"), transform, data.keep)
        record["folds"] = cross_validate(network, job.settings, whole, valid, job.pretrained)
    run_folder.mkdir(parents=True, exist_ok=True)
    (run_folder / "training.json").write_text(json.dumps(record, indent=1))
    for kept in (Path(job.folder, "logs"), *Path(job.folder).glob("*.log")):
        if kept.exists():
            os.replace(kept, run_folder / kept.name)
    shutil.rmtree(job.folder)  # a later run of the same inputs trains anew


def measured(network: Any, settings: Mapping[str, Any], model: keras.Model, train: Rows, valid: Rows) -> dict[str, Any]:
    """How the kept weights do on train (or a sample of it) and on valid, in inference mode, so that both can be compared.

    The loss of an epoch is another thing: it is taken with dropout and augmentation on, while the weights change.

    Returns:
        The name of the monitored ``metric``, and for ``train`` and ``valid`` each ``rows``, ``loss`` (without penalties)
        and the network's metrics.

    Question: A14
    Answer: First see it: both curves, and the kept weights measured in inference mode on train and on valid. More data
        helps most. Then augmentation, fewer parameters, dropout, L2 or weight decay, batch normalisation, and stopping
        when valid no longer improves. Measure each, since some cost more than they give; with a small split judge by
        cross-validation. Every choice made by looking at valid wears it out, so eval stays untouched. Leakage looks
        like success.
    Evidence: tour.evidence.training.overfitting.methods
    Proof: tests/tour/evidence/test_overfitting.py::test_more_rows_narrow_the_gap
    """
    found: dict[str, Any] = {"metric": network.MONITOR}
    for split, rows in (("train", train), ("valid", valid)):
        logits, truth = predict(model, rows), rows[network.LABEL]
        loss = float(tf.reduce_mean(network.loss(settings)(truth, logits)))
        found[split] = {"rows": len(truth), "loss": loss, **network.quality(truth, logits)}
    return found


def prepared(job: Job, data: Data) -> Job:
    """The job with both splits transformed once and stored, so that each process only has to read them."""
    paths = files(job.examples, "train")
    if not fits(paths):
        if job.settings["strategy"] == "parameter-server":
            raise ValueError(
                "parameter-server keeps the train split in memory, and this one is too large: use multiworker."
            )
        return job
    rows = load(paths, data.transform, data.keep)
    spec = store(rows, Path(job.folder, STORED))
    store(data.valid, Path(job.folder, STORED_VALID))
    label = data.network.LABEL
    return replace(job, spec=spec, rows=len(rows[label]), valid_rows=len(data.valid[label]))


def _feed(job: Job, data: Data) -> tuple[int, Any]:
    size, seed = job.settings["batch_size"], job.settings["seed"]
    if job.spec:
        return job.rows, stored(Path(job.folder, STORED), job.spec, job.rows, size, seed)
    return batches(files(job.examples, "train"), data.transform, data.keep, size, seed)


def _leave(fitted: Fit, folder: Path) -> None:
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
