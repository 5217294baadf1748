"""Experiments: what was recorded of the runs, and whether training can be repeated to the bit."""

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import config as framework  # has the way back from determinism; the public API has not

from models.catalog import CASES
from models.training import optimizers
from models.training.weight_digests import saved_weights_digest, weights_digest
from pipeline.tracking import comparison, mlflow_process
from tour.evidence.context import Context
from tour.evidence.result_types import NotHere, Number, Result, Series, Table

SAMPLE = 1024
BATCH = 64
STEPS = 20


def runs_compared(context: Context) -> list[Result]:
    """B28: MLflow's records asked now, one of them in full, and the last two side by side."""
    address = context.run.facts.get("tracked_at", "")
    if not address:
        why = context.run.facts.get("untracked") or "MLflow was off; `--tracking` names a server."
        return [NotHere("Records in MLflow", f"The run {context.run.id} has none: {why}")]
    started = time.perf_counter()
    records = {case: mlflow_process.recorded(address, case) for case in CASES}
    seconds = time.perf_counter() - started
    mine = next(one for one in records[context.case.name] if one["id"] == context.run.facts["mlflow"])
    listed = [one for found in records.values() for one in found]
    others = [one for one in records[context.case.name] if one is not mine] or [
        one for one in listed if one is not mine
    ]
    return [
        Number("Records in MLflow's store", len(listed), f"read in {seconds:.1f} s, MLflow's import included"),
        table_of(listed),
        contents(mine),
        *curves(address, mine),
        *(side_by_side(*sorted((others[-1], mine), key=lambda one: one["started"])) if others else [alone(context)]),
    ]


def table_of(records: Sequence[Mapping[str, Any]]) -> Table:
    """A row a record: what it was, on which data and code, where the model is."""
    rows = tuple(
        (
            one["run"],
            one["tags"]["state"],
            one["tags"]["headline"],
            len(one["params"]),
            len(one["metrics"]),
            one["data"].get("digest", ""),
            one["tags"]["commit"],
            one["tags"]["model"],
        )
        for one in records
    )
    names = ("run", "state", "headline", "parameters", "metrics", "data version", "commit", "model")
    return Table("Runs recorded in MLflow", names, rows)


def contents(record: Mapping[str, Any]) -> Table:
    """Everything that one record holds but its curves."""
    kinds = (("tag", record["tags"]), ("parameter", record["params"]), ("metric", record["metrics"]))
    rows = tuple((kind, name, value) for kind, found in kinds for name, value in sorted(found.items()))
    return Table(f"Record of {record['run']}", ("kind", "name", "value"), rows)


def curves(address: str, record: Mapping[str, Any]) -> list[Result]:
    """Loss by epoch as MLflow has it."""
    names = [name for name in ("loss", "valid_loss") if f"epoch/{name}" in record["metrics"]]
    lines = {name: tuple(mlflow_process.curve(address, record["id"], name)) for name in names}
    return [Series("Curves in MLflow", "epoch", "loss", lines)] if lines else []


def side_by_side(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Result]:
    """Two records: what they are, the parameters that differ, the metrics."""
    found = comparison.compared(first, second)
    pair = (found.first, found.second)
    return [
        Table("Two runs compared", ("fact", *pair), found.facts),
        Table("Parameters that differ", ("parameter", *pair), found.params),
        Table("Metrics", ("metric", *pair, "difference"), found.metrics),
    ]


def alone(context: Context) -> NotHere:
    """Why there are no two to compare."""
    name = context.case.name
    return NotHere("Two runs compared", f"There is one record; `showcase run {name} --set seed=2` makes another.")


def reproducible(context: Context) -> list[Result]:
    """B21: what the run recorded of its making, its weights' hash again from what is served, and training repeated."""
    trials = repeated(context)
    return [recorded(context), weights(context), table_of_trials(trials), cost(trials)]


def recorded(context: Context) -> Table:
    """Everything that decides the result, as the run recorded it."""
    facts, settings = context.run.facts, context.settings["training"]
    versions = json.loads(facts.get("libraries", "{}"))
    rows = [
        ("seed", settings["seed"]),
        ("deterministic operations", settings.get("deterministic", False)),
        ("data", f"{facts['source']} spans {facts['spans']}"),
        ("data version (content digest)", facts["data_version"]),
        ("git commit (+ where files differ)", facts["commit"] or "not a checkout"),
        ("lock file (SHA-256)", facts.get("lock") or "not a checkout"),
        ("fingerprint of all that decides the result", context.run.fingerprint),
        *versions.items(),
        *((f"setting {name}", value) for name, value in sorted(settings.items())),
        *((f"metric {name}", value) for name, value in json.loads(facts["metrics"]).items()),
    ]
    return Table(f"Recorded with run {context.run.id}", ("what", "value"), tuple(rows))


def weights(context: Context) -> Table:
    """The hash of the pushed weights, from the training's record and from the served folder as it is now."""
    told, now = context.training.get("weights", ""), saved_weights_digest(context.served)
    rows = (("recorded by the training", told or "not recorded"), (f"computed now from {context.served}", now))
    return Table(f"SHA-256 of the weights: {_verdict(told, now)}", ("where", "hash"), rows)


@dataclass(frozen=True)
class Trial:
    """A few training steps: seed, whether operations were deterministic, hash of the weights, median seconds of a step."""

    seed: int
    deterministic: bool
    digest: str
    seconds: float


def repeated(context: Context) -> list[Trial]:
    """The case's own network trained a few steps on rows of the run: twice with one seed, with another, and free."""
    network = context.case.load("model")
    rows = context.rows("train", (*network.INPUTS, network.LABEL), SAMPLE)
    settings, features = context.training["settings"], context.transform.features
    seed = settings["seed"]
    asked = [(seed, True), (seed, True), (seed + 1, True), (seed, False)]
    return [trial(network, settings, features, rows, *one) for one in asked]


def trial(
    network: Any,
    settings: Mapping[str, Any],
    features: Mapping[str, tf.TensorSpec],
    rows: Mapping[str, np.ndarray],
    seed: int,
    deterministic: bool,
) -> Trial:
    """Builds the network from a seed and takes a few steps.

    Args:
        rows: Transformed features and label, ``[rows, ...]`` each.
    """
    with determinism(deterministic):
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

        chosen = [np.random.randint(len(rows[network.LABEL]), size=BATCH) for _ in range(STEPS)]
        batches = [{name: tf.constant(value[one]) for name, value in rows.items()} for one in chosen]
        times = [_seconds(step, batch) for batch in batches]
        return Trial(seed, deterministic, weights_digest(model), statistics.median(times[1:]))  # the first one traces


def _seconds(step: Callable[[Mapping[str, tf.Tensor]], tf.Tensor], batch: Mapping[str, tf.Tensor]) -> float:
    started = time.perf_counter()
    step(batch).numpy()
    return time.perf_counter() - started


@contextmanager
def determinism(on: bool) -> Iterator[None]:
    """Deterministic operations on or off, and back."""
    before = framework.is_op_determinism_enabled()
    _determinism(on)
    try:
        yield
    finally:
        _determinism(before)


def _determinism(on: bool) -> None:
    (framework.enable_op_determinism if on else framework.disable_op_determinism)()


def table_of_trials(trials: list[Trial]) -> Table:
    """A row a trial."""
    rows = tuple((one.seed, one.deterministic, one.digest, 1000 * one.seconds) for one in trials)
    fixed = [one for one in trials if one.deterministic]
    same = {one.digest for one in fixed if one.seed == fixed[0].seed}
    other = {one.digest for one in fixed if one.seed != fixed[0].seed}
    said = f"same seed {'equal' if len(same) == 1 else 'NOT equal'}, other seed {'differs' if not same & other else 'EQUAL'}"
    names = ("seed", "deterministic", "SHA-256 of the weights", "milliseconds a step")
    return Table(f"Trained {STEPS} steps just now: {said}", names, rows)


def cost(trials: list[Trial]) -> Number:
    """Median time of a step with deterministic operations against without."""
    on, off = (min(one.seconds for one in trials if one.deterministic is kind) for kind in (True, False))
    return Number("A step with deterministic operations takes", round(on / off, 2), "times as long as one without")


def _verdict(told: str, now: str) -> str:
    if not told:
        return "this run's training recorded none"
    return "equal" if told == now else "NOT equal"
