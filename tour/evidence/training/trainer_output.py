"""Training: what the Trainer wrote, beside what can be counted."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tour.evidence.context import Context
from tour.evidence.result_types import NotHere, Number, Result, Series, Table

RECORDS = 8192


def epochs_reconciled(context: Context) -> list[Result]:
    """A18: rows, batches, steps and epochs of the run beside a count of the train split's records made now."""
    told = context.training
    batches = tf.data.TFRecordDataset(context.shards("train")).batch(RECORDS)
    counted = sum(int(batch.shape[0]) for batch in batches)
    return [reconciled(told, counted), curves(context)]


def reconciled(told: Mapping[str, Any], counted: int) -> Table:
    """The Trainer's numbers, and the same numbers from a count of records."""
    epochs, batch = len(told["curves"]), told["batch_size"]
    expected = epochs * (counted // batch)
    rows = (
        ("examples of the train split", told["rows"], counted, told["rows"] == counted),
        ("examples of a batch", batch, batch, True),
        ("steps of an epoch", told["steps"] // epochs, counted // batch, told["steps"] // epochs == counted // batch),
        ("epochs until it stopped", epochs, epochs, True),
        ("steps in all", told["steps"], expected, told["steps"] == expected),
        (
            "examples left out of every epoch",
            told["rows"] % batch,
            counted % batch,
            told["rows"] % batch == counted % batch,
        ),
    )
    return Table("An epoch of this run", ("", "Trainer", "counted now", "equal"), rows)


def curves(context: Context) -> Series:
    """Loss by epoch on train and valid, the kept epoch marked."""
    told = context.training
    lines = {
        name: tuple((epoch + 1, curve[name]) for epoch, curve in enumerate(told["curves"]))
        for name in ("loss", "valid_loss")
    }
    best = told["best_epoch"]
    marks = {"kept weights": (best + 1, told["curves"][best]["valid_loss"])}
    return Series("Loss of the run", "epoch", "loss", lines, marks)


def best(context: Context) -> Number:
    """The monitored metric of the kept epoch on the validation split."""
    name, value = next(iter(context.training["valid"].items()))
    return Number(f"{name} on the validation split", value, f"in epoch {context.training['best_epoch'] + 1}")


def callbacks_of_run(context: Context) -> list[Result]:
    """B15: what each callback did in this run, by epoch, and the settings that called it."""
    told = context.training
    acted = [(entry["epoch"] + 1, entry["callback"], entry["what"]) for entry in told["journal"]]
    names = ("patience", "schedule", "checkpoint_steps", "tensorboard", "profile")
    rates = tuple((name, told["settings"][name]) for name in names)
    return [
        Table("What the callbacks did", ("epoch", "callback", "what"), tuple(acted)),
        Table("Settings", ("setting", "value"), rates),
        curves(context),
    ]


def event_files(context: Context) -> list[Result]:
    """A7: what TensorBoard would show, read from the run's event files, and the command that opens it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logs = context.artifact("model_run") / "logs"
    if not logs.is_dir():
        return [
            NotHere("No event files", "The run was made with tensorboard=false; --set tensorboard=true writes them.")
        ]
    read = EventAccumulator(str(logs / "train"), size_guidance={"tensors": 0})
    read.Reload()
    tags = read.Tags()["tensors"]
    scalars = sorted(tag for tag in tags if tag.startswith("epoch_"))
    histograms = [tag for tag in tags if tag.endswith("/histogram")]
    profiles = list(logs.rglob("*.xplane.pb"))
    rows = (
        ("scalars", len(scalars), ", ".join(tag.removeprefix("epoch_") for tag in scalars)),
        ("histograms", len(histograms), f"weights after each of {len(told_epochs(context))} epochs"),
        ("graph", int(read.Tags()["graph"]), f"{len(read.Graph().node)} nodes" if read.Tags()["graph"] else ""),
        ("profiles", len(profiles), ", ".join(f"{one.stat().st_size:,} bytes" for one in profiles)),
    )
    points = tuple((event.step + 1, _scalar(event)) for event in read.Tensors("epoch_loss"))
    return [
        Table("In the event files", ("kind", "number", "what"), rows),
        Series("Loss as TensorBoard has it", "epoch", "loss", {"loss": points}),
        Number("To look at them", f"tensorboard --logdir {logs}"),
    ]


def told_epochs(context: Context) -> list[dict[str, Any]]:
    """The run's curves, a dict an epoch."""
    return context.training["curves"]


def _scalar(event: Any) -> float:
    return float(tf.make_ndarray(event.tensor_proto))
