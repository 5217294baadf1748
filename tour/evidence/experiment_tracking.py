"""Evidence on experiment tracking: the runs recorded in MLflow, and whether training is reproducible bit by bit."""

import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import (
    config as framework,
)  # the public API can switch determinism on, but not off again

from models.catalog import CASES
from models.training import optimizers
from models.training.weight_digests import saved_weights_digest, weights_digest
from pipeline.tracking import comparison, mlflow_process
from tour.evidence.context import Context
from tour.evidence.result_types import NotHere, Number, Result, Series, Table
from tour.measure.timing import measure_seconds

SAMPLE = 1024
BATCH = 64
STEPS = 20


def compare_runs(context: Context) -> list[Result]:
    """B28: MLflow's records read now, this run's record in full, and this run compared with the one before it."""
    address = context.run.facts.get("tracked_at", "")
    if not address:
        reason = context.run.facts.get("untracked") or "MLflow was off. Use `--tracking` to name a server."
        return [NotHere("Records in MLflow", f"The run {context.run.id} has none: {reason}")]
    started = time.perf_counter()
    records = {case: mlflow_process.read_records(address, case) for case in CASES}
    seconds = time.perf_counter() - started
    current = next(record for record in records[context.case.name] if record["id"] == context.run.facts["mlflow"])
    listed = [record for of_case in records.values() for record in of_case]
    others = [record for record in records[context.case.name] if record is not current] or [
        record for record in listed if record is not current
    ]
    return [
        Number("Records in MLflow's store", len(listed), f"read in {seconds:.1f} s, including the import of MLflow"),
        records_table(listed),
        record_contents(current),
        *curves(address, current),
        *(
            compare_records(*sorted((others[-1], current), key=lambda run: run["started"]))
            if others
            else [no_second_record(context)]
        ),
    ]


def records_table(records: Sequence[Mapping[str, Any]]) -> Table:
    """One row per record: state, headline, data version, commit and model folder."""
    rows = tuple(
        (
            record["run"],
            record["tags"]["state"],
            record["tags"]["headline"],
            len(record["params"]),
            len(record["metrics"]),
            record["data"].get("digest", ""),
            record["tags"]["commit"],
            record["tags"]["model"],
        )
        for record in records
    )
    names = ("run", "state", "headline", "parameters", "metrics", "data version", "commit", "model")
    return Table("Runs recorded in MLflow", names, rows)


def record_contents(record: Mapping[str, Any]) -> Table:
    """Everything in a record except its curves."""
    kinds = (("tag", record["tags"]), ("parameter", record["params"]), ("metric", record["metrics"]))
    rows = tuple((kind, name, value) for kind, values in kinds for name, value in sorted(values.items()))
    return Table(f"MLflow record of {record['run']}", ("kind", "name", "value"), rows)


def curves(address: str, record: Mapping[str, Any]) -> list[Result]:
    """Loss by epoch, as recorded in MLflow."""
    names = [name for name in ("loss", "valid_loss") if f"epoch/{name}" in record["metrics"]]
    lines = {name: tuple(mlflow_process.read_curve(address, record["id"], name)) for name in names}
    return [Series("Loss by epoch, as recorded in MLflow", "epoch", "loss", lines)] if lines else []


def compare_records(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Result]:
    """Compare two records: facts, parameters that differ, metrics."""
    compared = comparison.compare_records(first, second)
    pair = (compared.first, compared.second)
    return [
        Table("Two runs compared", ("fact", *pair), compared.facts),
        Table("Parameters that differ", ("parameter", *pair), compared.params),
        Table("Metrics", ("metric", *pair, "difference"), compared.metrics),
    ]


def no_second_record(context: Context) -> NotHere:
    """Say that there is no second record to compare with."""
    name = context.case.name
    return NotHere(
        "Two runs compared", f"There is only one record. To make another: `showcase run {name} --set seed=2`."
    )


def reproducibility(context: Context) -> list[Result]:
    """B21: the facts that decide the run's result, the hash of its weights computed again, and training repeated now."""
    trials = repeat_training(context)
    return [recorded_facts(context), weight_hashes(context), trials_table(trials), determinism_cost(trials)]


def recorded_facts(context: Context) -> Table:
    """Everything that decides the result, as recorded by the run."""
    facts, settings = context.run.facts, context.settings["training"]
    versions = json.loads(facts.get("libraries", "{}"))
    rows = [
        ("seed", settings["seed"]),
        ("deterministic operations", settings.get("deterministic", False)),
        ("data", f"{facts['source']} spans {facts['spans']}"),
        ("data version (content digest)", facts["data_version"]),
        ("git commit (+ if files differ from it)", facts["commit"] or "no git checkout"),
        ("lock file (SHA-256)", facts.get("lock") or "no git checkout"),
        ("fingerprint of everything that decides the result", context.run.fingerprint),
        *versions.items(),
        *((f"setting {name}", value) for name, value in sorted(settings.items())),
        *((f"metric {name}", value) for name, value in json.loads(facts["metrics"]).items()),
    ]
    return Table(f"Facts recorded with run {context.run.id}", ("fact", "value"), tuple(rows))


def weight_hashes(context: Context) -> Table:
    """Hash of the pushed weights: as recorded by the training, and computed now from the served folder."""
    recorded_hash, now = context.training.get("weights", ""), saved_weights_digest(context.served)
    rows = (("recorded by the training", recorded_hash or "not recorded"), (f"computed now from {context.served}", now))
    return Table(f"SHA-256 of the weights: {_verdict(recorded_hash, now)}", ("where", "hash"), rows)


@dataclass(frozen=True)
class Trial:
    """Outcome of a few training steps.

    Attributes:
        seed: Seed of every random generator.
        deterministic: Whether TensorFlow's operations were deterministic.
        digest: Hash of the weights afterwards.
        seconds: Median seconds of a step.
    """

    seed: int
    deterministic: bool
    digest: str
    seconds: float


def repeat_training(context: Context) -> list[Trial]:
    """Train the use case's network for a few steps: twice with the same seed, with another seed, and non-deterministically."""
    rows = context.labelled_rows("train", SAMPLE)
    settings, features = context.training["settings"], context.transform.features
    seed = settings["seed"]
    trials = [(seed, True), (seed, True), (seed + 1, True), (seed, False)]
    return [run_trial(context.network, settings, features, rows, *arguments) for arguments in trials]


def run_trial(
    network: Any,
    settings: Mapping[str, Any],
    features: Mapping[str, tf.TensorSpec],
    rows: Mapping[str, np.ndarray],
    seed: int,
    deterministic: bool,
) -> Trial:
    """Build the network from a seed and train it for a few steps.

    Args:
        rows: Transformed features and label, ``[rows, ...]`` each.
    """
    with set_determinism(deterministic):
        keras.utils.set_random_seed(seed)
        model = network.build(settings, features)
        optimizer, loss_fn = optimizers.create(settings, STEPS), network.loss(settings)
        optimizer.build(model.trainable_variables)

        @tf.function
        def step(batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
            with tf.GradientTape() as tape:
                logits = model({name: batch[name] for name in model.input}, training=True)
                loss = tf.reduce_mean(loss_fn(batch[network.LABEL], logits)) + sum(model.losses)
            optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
            return loss

        samples = [np.random.randint(len(rows[network.LABEL]), size=BATCH) for _ in range(STEPS)]
        batches = [{name: tf.constant(value[indices]) for name, value in rows.items()} for indices in samples]
        times = [measure_seconds(partial(lambda batch: step(batch).numpy(), batch)) for batch in batches]
        return Trial(
            seed, deterministic, weights_digest(model), statistics.median(times[1:])
        )  # the first step includes tracing


@contextmanager
def set_determinism(on: bool) -> Iterator[None]:
    """Switch deterministic operations on or off; restore the former state on exit."""
    before = framework.is_op_determinism_enabled()
    _set_determinism(on)
    try:
        yield
    finally:
        _set_determinism(before)


def _set_determinism(on: bool) -> None:
    (framework.enable_op_determinism if on else framework.disable_op_determinism)()


def trials_table(trials: list[Trial]) -> Table:
    """One row per trial; the title says whether the hashes agree."""
    rows = tuple((run.seed, run.deterministic, run.digest, 1000 * run.seconds) for run in trials)
    fixed = [run for run in trials if run.deterministic]
    same = {run.digest for run in fixed if run.seed == fixed[0].seed}
    other = {run.digest for run in fixed if run.seed != fixed[0].seed}
    same_seed = "equal weights" if len(same) == 1 else "weights NOT equal"
    other_seed = "different weights" if not same & other else "EQUAL weights"
    names = ("seed", "deterministic", "SHA-256 of the weights", "milliseconds per step")
    return Table(f"Trained for {STEPS} steps now. Same seed: {same_seed}; other seed: {other_seed}", names, rows)


def determinism_cost(trials: list[Trial]) -> Number:
    """Ratio of the step times with and without deterministic operations."""
    on, off = (min(run.seconds for run in trials if run.deterministic is kind) for kind in (True, False))
    return Number("A step with deterministic operations takes", round(on / off, 2), "times as long as one without")


def _verdict(recorded_hash: str, now: str) -> str:
    if not recorded_hash:
        return "this run's training recorded no hash"
    return "equal" if recorded_hash == now else "NOT equal"
