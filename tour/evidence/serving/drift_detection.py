"""Drift: the eval split's own profile against other rows of it, as they are and with something changed."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl

from serving.drift.alarms import data_faults, distribution_distances
from serving.drift.alarms.alarm import Finding, judge
from serving.drift.profiles import bins
from serving.drift.profiles.profile import Profile
from serving.drift.reference.day_variation import ANY, Baseline
from tour.evidence.context import Context
from tour.evidence.result_types import Number, Result, Table

FACTOR = 1.2
UNIT = 100
SHARE = 0.2
Change = Callable[[pl.DataFrame], pl.DataFrame]


def detected(context: Context) -> list[Result]:
    """B18: half of the eval split as the reference; the other half clean, with drift, and with a fault."""
    rows = watched(context)
    halves = rows[::2], rows[1::2]
    counted = bins.fit(halves[0])
    reference = Profile.of(counted, halves[0])
    baseline = Baseline.of_rows(reference)
    number = next(name for name in context.case.watch if rows[name].dtype.is_numeric())
    windows = {name: Profile.of(counted, change(halves[1])) for name, change in changes(number).items()}
    tables = [_compared(name, baseline, window) for name, window in windows.items()]
    faults = tuple(
        (name, fault.column, fault.kind, fault.says)
        for name, window in windows.items()
        for fault in data_faults.check(reference, window)
    )
    halved = Profile.of(counted, halves[1][::2]).merge(Profile.of(counted, halves[1][1::2]))
    whole = windows["as it is"].to_bytes()
    return [
        *tables,
        Table("Faults of the data, told apart from drift", ("window", "column", "fault", "what"), faults),
        Number("Bytes of the profile a column", len(whole) // len(counted)),
        Number("The profiles of two parts add up to that of the whole", "yes" if halved.to_bytes() == whole else "no"),
    ]


def watched(context: Context) -> pl.DataFrame:
    """The eval split's watched raw features, and the scores that the pushed model gave."""
    import tensorflow as tf

    from models.evaluation import slices

    records = tf.data.TFRecordDataset(context.shards("eval"))
    raw = {name: tf.io.RaggedFeature(kind) for name, kind in slices.types(records, context.case.watch).items()}
    batches = list(records.batch(4096).map(lambda one: tf.io.parse_example(one, raw)))
    columns = {name: _column([batch[name] for batch in batches]) for name in raw}
    with np.load(context.artifact("comparison") / "scores.npz") as held:
        scores = held["network"]
    if scores.shape[1] == 1:
        return pl.DataFrame(columns | {"score": scores[:, 0].astype(np.float64)})
    predicted = pl.Series([str(one) for one in scores.argmax(axis=1)])
    return pl.DataFrame(columns | {"confidence": scores.max(axis=1).astype(np.float64), "predicted": predicted})


def changes(number: str) -> Mapping[str, Change]:
    """What is done to a window, by name: nothing, every value times ``FACTOR``, some in another unit."""

    def faulty(rows: pl.DataFrame) -> pl.DataFrame:
        some = pl.int_range(pl.len()) % round(1 / SHARE) == 0
        return rows.with_columns(pl.when(some).then((pl.col(number) * UNIT).round()).otherwise(number).alias(number))

    return {
        "as it is": lambda rows: rows,
        f"{number} times {FACTOR}": lambda rows: rows.with_columns(pl.col(number) * FACTOR),
        f"{number} times {UNIT} in {SHARE:.0%}": faulty,
    }


def _compared(name: str, baseline: Baseline, window: Profile) -> Table:
    """Distances a column, and whether the tests call it drift."""
    findings = judge(baseline, [(ANY, window)])
    rows = tuple(_row(column.name, baseline.pooled, window, findings) for column in window.layout)
    columns = ("column", "KL", "Jensen–Shannon", "KS", "L-infinity", "PSI", "adjusted p", "drift")
    return Table(f"Window {name}, {window.rows:,} rows", columns, rows)


def _row(column: str, reference: Profile, window: Profile, findings: list[Finding]) -> tuple[Any, ...]:
    now, then = window[column].bins, reference[column].bins
    own = [one for one in findings if one.column == column]
    distances = (
        distribution_distances.kullback_leibler,
        distribution_distances.jensen_shannon,
        distribution_distances.kolmogorov_smirnov,
        distribution_distances.linf,
        distribution_distances.population_stability,
    )
    p = min((one.adjusted for one in own), default=1.0)
    return column, *(distance(now, then) for distance in distances), p, "yes" if any(one.moved for one in own) else "no"


def _column(batches: list[Any]) -> pl.Series:
    """The first value of each row, null where there is none."""
    values = np.concatenate([batch.to_tensor(shape=[None, 1]).numpy()[:, 0] for batch in batches])
    there = np.concatenate([batch.row_lengths().numpy() for batch in batches]) > 0
    plain = values.astype(np.float64) if values.dtype != object else [one.decode("utf-8", "replace") for one in values]
    kept = pl.Series(plain)
    return pl.select(pl.when(pl.Series(there)).then(kept).otherwise(None)).to_series()
