"""Evidence on drift detection: one half of the eval split compared with the other half, unchanged and with changes."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl

from serving.drift.alarms import data_faults, distribution_distances
from serving.drift.alarms.alarm import Finding, find_drift
from serving.drift.profiles import bins
from serving.drift.profiles.profile import Profile
from serving.drift.reference.day_variation import ANY_KIND, ReferenceBaseline
from tour.evidence.context import Context
from tour.evidence.result_types import Number, Result, Table

FACTOR = 1.2
UNIT = 100
SHARE = 0.2
Change = Callable[[pl.DataFrame], pl.DataFrame]


def drift_and_faults(context: Context) -> list[Result]:
    """B18: half of the eval split as the reference profile; the other half unchanged, with drift, and with a data fault."""
    rows = monitored_rows(context)
    halves = rows[::2], rows[1::2]
    layout = bins.fit_layout(halves[0])
    reference = Profile.of(layout, halves[0])
    baseline = ReferenceBaseline.of_rows(reference)
    number = next(name for name in context.case.watch if rows[name].dtype.is_numeric())
    windows = {name: Profile.of(layout, change(halves[1])) for name, change in window_changes(number).items()}
    tables = [_compare(name, baseline, window) for name, window in windows.items()]
    faults = tuple(
        (name, fault.column, fault.kind, fault.says)
        for name, window in windows.items()
        for fault in data_faults.find_faults(reference, window)
    )
    merged = Profile.of(layout, halves[1][::2]).merge(Profile.of(layout, halves[1][1::2]))
    whole = windows["unchanged"].to_bytes()
    return [
        *tables,
        Table("Data faults, distinguished from drift", ("window", "column", "fault", "description"), faults),
        Number("Bytes of the profile per column", len(whole) // len(layout)),
        Number("The merged profiles of two parts equal the profile of the whole", merged.to_bytes() == whole),
    ]


def monitored_rows(context: Context) -> pl.DataFrame:
    """Monitored raw features of the eval split, and the scores of the pushed model."""
    import tensorflow as tf

    from models.evaluation import slices

    records = tf.data.TFRecordDataset(context.shards("eval"))
    raw = {name: tf.io.RaggedFeature(kind) for name, kind in slices.infer_types(records, context.case.watch).items()}
    batches = list(records.batch(4096).map(lambda batch: tf.io.parse_example(batch, raw)))
    columns = {name: _column([batch[name] for batch in batches]) for name in raw}
    scores = context.scores
    if scores.shape[1] == 1:
        return pl.DataFrame(columns | {"score": scores[:, 0].astype(np.float64)})
    predicted = pl.Series([str(label) for label in scores.argmax(axis=1)])
    return pl.DataFrame(columns | {"confidence": scores.max(axis=1).astype(np.float64), "predicted": predicted})


def window_changes(number: str) -> Mapping[str, Change]:
    """Changes of a window, by name: none, all values times ``FACTOR``, and a share of the values in another unit."""

    def change_unit(rows: pl.DataFrame) -> pl.DataFrame:
        selected = pl.int_range(pl.len()) % round(1 / SHARE) == 0
        return rows.with_columns(
            pl.when(selected).then((pl.col(number) * UNIT).round()).otherwise(number).alias(number)
        )

    return {
        "unchanged": lambda rows: rows,
        f"{number} times {FACTOR}": lambda rows: rows.with_columns(pl.col(number) * FACTOR),
        f"{number} times {UNIT} in {SHARE:.0%} of the rows": change_unit,
    }


def _compare(name: str, baseline: ReferenceBaseline, window: Profile) -> Table:
    """Distances from the reference per column, and whether the tests detect drift."""
    findings = find_drift(baseline, [(ANY_KIND, window)])
    rows = tuple(_row(column.name, baseline.pooled, window, findings) for column in window.layout)
    columns = ("column", "KL", "Jensen–Shannon", "KS", "L-infinity", "PSI", "adjusted p-value", "drift")
    return Table(f"Window {name}, {window.rows:,} rows", columns, rows)


def _row(column: str, reference: Profile, window: Profile, findings: list[Finding]) -> tuple[Any, ...]:
    window_bins, reference_bins = window[column].bins, reference[column].bins
    own = [finding for finding in findings if finding.column == column]
    distances = (
        distribution_distances.kullback_leibler,
        distribution_distances.jensen_shannon,
        distribution_distances.kolmogorov_smirnov,
        distribution_distances.linf,
        distribution_distances.population_stability,
    )
    p_value = min((finding.adjusted for finding in own), default=1.0)
    return (
        column,
        *(distance(window_bins, reference_bins) for distance in distances),
        p_value,
        any(finding.moved for finding in own),
    )


def _column(batches: list[Any]) -> pl.Series:
    """The first value of each row, null where there is none."""
    values = np.concatenate([batch.to_tensor(shape=[None, 1]).numpy()[:, 0] for batch in batches])
    present = np.concatenate([batch.row_lengths().numpy() for batch in batches]) > 0
    plain = (
        values.astype(np.float64) if values.dtype != object else [value.decode("utf-8", "replace") for value in values]
    )
    series = pl.Series(plain)
    return pl.select(pl.when(pl.Series(present)).then(series).otherwise(None)).to_series()
