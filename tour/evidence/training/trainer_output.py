"""Evidence from the Trainer's record of the run and its event files."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tour.evidence.context import Context
from tour.evidence.result_types import NotHere, Number, Result, Series, Table

RECORDS = 8192


def epoch_counts(context: Context) -> list[Result]:
    """A18: rows, batches, steps and epochs of the run, compared with the records of the train split counted now."""
    training = context.training
    batches = tf.data.TFRecordDataset(context.shards("train")).batch(RECORDS)
    counted = sum(int(batch.shape[0]) for batch in batches)
    return [compare_counts(training, counted), loss_curves(context)]


def compare_counts(training: Mapping[str, Any], count: int) -> Table:
    """Compare the Trainer's numbers with those that follow from the counted records."""
    epochs, batch = len(training["curves"]), training["batch_size"]
    expected = epochs * (count // batch)
    rows = (
        ("examples in the train split", training["rows"], count, training["rows"] == count),
        ("examples per batch", batch, batch, True),
        ("steps per epoch", training["steps"] // epochs, count // batch, training["steps"] // epochs == count // batch),
        ("epochs until training stopped", epochs, epochs, True),
        ("steps in total", training["steps"], expected, training["steps"] == expected),
        (
            "examples left out of each epoch",
            training["rows"] % batch,
            count % batch,
            training["rows"] % batch == count % batch,
        ),
    )
    return Table("Epochs of this run", ("quantity", "recorded by the Trainer", "counted now", "equal"), rows)


def loss_curves(context: Context) -> Series:
    """Loss by epoch on train and valid; the epoch with the best weights is marked."""
    training = context.training
    lines = {
        name: tuple((epoch + 1, curve[name]) for epoch, curve in enumerate(training["curves"]))
        for name in ("loss", "valid_loss")
    }
    best = training["best_epoch"]
    marks = {"best weights": (best + 1, training["curves"][best]["valid_loss"])}
    return Series("Loss of this run by epoch", "epoch", "loss", lines, marks)


def best_metric(context: Context) -> Number:
    """Monitored metric of the best epoch on the validation split."""
    name, value = next(iter(context.training["valid"].items()))
    return Number(f"{name} on the validation split", value, f"in epoch {context.training['best_epoch'] + 1}, the best")


def callbacks_of_run(context: Context) -> list[Result]:
    """B15: what each callback did in this run, by epoch, and the settings that enable the callbacks."""
    training = context.training
    actions = [(entry["epoch"] + 1, entry["callback"], entry["what"]) for entry in training["journal"]]
    names = ("patience", "schedule", "checkpoint_steps", "tensorboard", "profile")
    settings = tuple((name, training["settings"][name]) for name in names)
    return [
        Table("What the callbacks did", ("epoch", "callback", "action"), tuple(actions)),
        Table("Settings of the callbacks", ("setting", "value"), settings),
        loss_curves(context),
    ]


def event_files(context: Context) -> list[Result]:
    """A7: what TensorBoard shows, read from the run's event files, and the command that opens TensorBoard."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logs = context.artifact("model_run") / "logs"
    if not logs.is_dir():
        return [NotHere("No event files", "The run had tensorboard=false. Run again with --set tensorboard=true.")]
    events = EventAccumulator(str(logs / "train"), size_guidance={"tensors": 0})
    events.Reload()
    tags = events.Tags()["tensors"]
    scalars = sorted(tag for tag in tags if tag.startswith("epoch_"))
    histograms = [tag for tag in tags if tag.endswith("/histogram")]
    profiles = list(logs.rglob("*.xplane.pb"))
    rows = (
        ("scalars", len(scalars), ", ".join(tag.removeprefix("epoch_") for tag in scalars)),
        ("histograms", len(histograms), f"weights after each of {len(context.training['curves'])} epochs"),
        ("graph", int(events.Tags()["graph"]), f"{len(events.Graph().node)} nodes" if events.Tags()["graph"] else ""),
        ("profiles", len(profiles), ", ".join(f"{profile.stat().st_size:,} bytes" for profile in profiles)),
    )
    points = tuple((event.step + 1, _scalar(event)) for event in events.Tensors("epoch_loss"))
    return [
        Table("Contents of the event files", ("kind", "number", "description"), rows),
        Series("Training loss in the event files", "epoch", "loss", {"loss": points}),
        Number("Command to open TensorBoard", f"tensorboard --logdir {logs}"),
    ]


def _scalar(event: Any) -> float:
    return float(tf.make_ndarray(event.tensor_proto))
