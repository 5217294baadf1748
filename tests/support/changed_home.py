"""A copy of a home in which every artifact of the runs is changed, to test that evidence depends on the run."""

import json
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tensorflow as tf
from tensorflow.core.util import event_pb2
from tensorflow_metadata.proto.v0 import statistics_pb2
from tensorflow_model_analysis.proto import metrics_for_slice_pb2

from models.catalog import CASES
from tour.evidence.context import Context

SCALE = 1.05  # of every weight: the network still works, with other outputs
PLACES = (("Artifact", "uri"), *((f"{kind}Property", "string_value") for kind in ("Artifact", "Execution", "Context")))
FACTS = ("reason", "headline", "comparison", "metrics", "slices")
NEXT = str.maketrans("0123456789", "1234567890")


def copy_changed(home: Path, target: Path) -> Path:
    """Copy a home and change the artifacts of its runs; the raw data is shared with the original.

    Every split loses each third row, starting with the first; every weight is scaled; the records of training, evaluation and
    comparison have other numbers, and so have the records of the runs in the store and in MLflow.

    Returns:
        The copy.
    """
    shutil.copytree(home, target, ignore=shutil.ignore_patterns("logs", "data", "edge", "*.lock", ".system", "online"))
    (target / "data").symlink_to(home / "data")
    _change_store(target / "metadata.sqlite", home, target)
    _change_records(target / "mlflow.sqlite")
    for case in CASES:
        _change_run(Context.of(target, case))
    return target


def link_home(home: Path, target: Path) -> Path:
    """Create a home with the same runs, into which tests may write compiled programs and locks.

    Returns:
        The folder; all but the metadata store are links into the original home.
    """
    target.mkdir(parents=True)
    for path in home.iterdir():
        if path.name not in ("edge", "metadata.sqlite") and path.suffix != ".lock":
            (target / path.name).symlink_to(path)
    shutil.copy(home / "metadata.sqlite", target / "metadata.sqlite")
    return target


def _change_store(path: Path, home: Path, target: Path) -> None:
    with closing(sqlite3.connect(path)) as store, store:
        for table, column in PLACES:
            store.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (f"{home}/", f"{target}/"))
        facts = store.execute("SELECT context_id, name, string_value FROM ContextProperty").fetchall()
        for number, name, text in facts:
            other = _other_fact(name, text)
            where = "WHERE context_id = ? AND name = ?"
            store.execute(f"UPDATE ContextProperty SET string_value = ? {where}", (other, number, name))


def _other_fact(name: str, text: str) -> str:
    if name in FACTS:
        return _other_decimals(text)
    if name == "data_version":
        return text[::-1]
    if name == "settings":
        # The .tflite files do not change and so differ from the scaled SavedModel; the gates have to accept that.
        settings = json.loads(text)
        return json.dumps({**settings, "gates": {**settings["gates"], "lite_tolerance": 10.0, "lite_metric_loss": 1.0}})
    return text


def _change_records(path: Path) -> None:
    with closing(sqlite3.connect(path)) as records, records:
        for table in ("metrics", "latest_metrics"):
            records.execute(f"UPDATE {table} SET value = value * ?", (SCALE,))


def _change_run(context: Context) -> None:
    """Change the artifacts of a run; the training record comes last, as reading other artifacts depends on it."""
    for split in ("train", "valid", "eval"):
        _thin(context.shards(split))
    for folder in (context.served, context.artifact("model")):
        for index in folder.rglob("variables.index"):
            _scale_variables(index.with_suffix(""))
        for weights in folder.rglob("*.weights.h5"):
            _scale_weights(weights)
    for path in context.artifact("statistics").glob("Split-*/FeatureStats.pb"):
        _change_statistics(path)
    for path in context.artifact("evaluation").glob("plots-*"):
        _rewrite(path, _other_plots)
    for path in context.artifact("model_run").glob("logs/train/events.*"):
        _rewrite(path, _other_event)
    _change_comparison(context.artifact("comparison"))
    if context.case.has("sentences"):
        _change_embedding(context.artifact("embedding"))
    _change_training(context.artifact("model_run") / "training.json")


def _thin(paths: Iterable[str]) -> None:
    """Drop each third record of a split, counted over its files."""
    number = 0
    for path in paths:
        records = list(tf.data.TFRecordDataset(path).as_numpy_iterator())
        with tf.io.TFRecordWriter(path) as writer:
            for record in records:
                if number % 3:
                    writer.write(record)
                number += 1


def _scale_variables(prefix: Path) -> None:
    """Scale the variables of a SavedModel."""
    read = tf.train.load_checkpoint(str(prefix))
    names = sorted(read.get_variable_to_shape_map())
    values = [_scale(read.get_tensor(name)) for name in names]
    other = prefix.with_name("other")
    tf.raw_ops.SaveV2(prefix=str(other), tensor_names=names, shape_and_slices=[""] * len(names), tensors=values)
    for path in prefix.parent.glob("other.*"):
        path.rename(path.with_name(path.name.replace("other", prefix.name, 1)))


def _scale(value: Any) -> Any:
    return (
        value * np.asarray(SCALE, value.dtype) if getattr(value, "dtype", None) in (np.float32, np.float64) else value
    )


def _scale_weights(path: Path) -> None:
    """Scale the weights in a Keras file."""
    with h5py.File(path, "r+") as file:
        file.visititems(
            lambda _, item: item.write_direct(_scale(item[...])) if isinstance(item, h5py.Dataset) else None
        )


def _change_statistics(path: Path) -> None:
    statistics = statistics_pb2.DatasetFeatureStatisticsList.FromString(path.read_bytes())
    for split in statistics.datasets:
        for feature in split.features:
            kind = feature.WhichOneof("stats")
            if kind:
                getattr(feature, kind).common_stats.tot_num_values *= 2
    path.write_bytes(statistics.SerializeToString())


def _rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    records = [change(record) for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


def _other_plots(record: bytes) -> bytes:
    """Increase the false positives at every threshold."""
    plots = metrics_for_slice_pb2.PlotsForSlice.FromString(record)
    for plot in plots.plot_keys_and_values:
        for matrix in plot.value.confusion_matrix_at_thresholds.matrices:
            matrix.false_positives = 2 * matrix.false_positives + 1
    return plots.SerializeToString()


def _other_event(record: bytes) -> bytes:
    """Change the loss."""
    event = event_pb2.Event.FromString(record)
    for value in event.summary.value:
        if value.tag == "epoch_loss":
            value.tensor.CopyFrom(tf.make_tensor_proto(_scale(tf.make_ndarray(value.tensor))))
    return event.SerializeToString()


def _change_comparison(folder: Path) -> None:
    path = folder / "comparison.json"
    path.write_text(json.dumps(_other_numbers(json.loads(path.read_text()))))
    with np.load(folder / "scores.npz") as scores:
        thinned = {name: values[np.arange(len(values)) % 3 > 0] for name, values in scores.items()}
    np.savez(folder / "scores.npz", **thinned)


def _change_embedding(folder: Path) -> None:
    path = folder / "embedding.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "loss": _other_numbers(facts["loss"])}))
    np.save(folder / "matrix.npy", np.load(folder / "matrix.npy")[::-1])


def _change_training(path: Path) -> None:
    """Change curves, gap and metric, and double the steps."""
    record = json.loads(path.read_text())
    other = {name: _other_numbers(record[name]) for name in ("curves", "fit", "valid")}
    path.write_text(json.dumps({**record, **other, "steps": 2 * record["steps"]}))


def _other_numbers(value: Any) -> Any:
    """Scale every float in a JSON value."""
    if isinstance(value, Mapping):
        return {name: _other_numbers(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_other_numbers(part) for part in value]
    return value / SCALE if isinstance(value, float) else value


def _other_decimals(text: str) -> str:
    """Replace every digit after a decimal point by the next one."""
    return re.sub(r"(?<=\.)\d+", lambda digits: digits[0].translate(NEXT), text)
