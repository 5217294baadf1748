"""Training: what the Trainer wrote, beside what can be counted."""

import tensorflow as tf

from tour.evidence.context import Context
from tour.evidence.kinds import Number, Result, Series, Table

RECORDS = 8192


def epochs_reconciled(context: Context) -> list[Result]:
    """A18: rows, batches, steps and epochs of the run beside a count of the train split's records made now."""
    told = context.training
    batches = tf.data.TFRecordDataset(context.shards("train")).batch(RECORDS)
    counted = sum(int(batch.shape[0]) for batch in batches)
    return [reconciled(told, counted), curves(context)]


def reconciled(told: dict, counted: int) -> Table:
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
