"""Write served purchases as a raw span, so that a model can be retrained on them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from models.fraud.raw.columns import TYPES
from models.fraud.raw.file_reader import ReadOptions

TEXTS, NUMBERS = ("category", "channel", "device"), ("distance_km",)


def write(folder: Path, rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> int:
    """Write the purchases of a day, with the labels that have arrived so far, under the column names of the source.

    Args:
        folder: Folder of the span; created.
        rows: For each purchase ``journal`` (id, time, customer, merchant, amount), ``features`` by name, and ``label`` and
            ``known`` (microseconds since 1970), None where no label has arrived.
        settings: Settings of the group ``data``.

    Returns:
        Number of purchases written.
    """
    names = ("transaction_id", "event_time", "customer_id", "merchant_id", "amount")
    columns: dict[str, list[Any]] = {
        name: [row["journal"][position] for row in rows] for position, name in enumerate(names)
    }
    options = ReadOptions.of(settings)
    columns |= {"is_fraud": [row["label"] for row in rows], "label_time": [_label_time(row) for row in rows]}
    for name in (*TEXTS, *NUMBERS):
        columns[name] = [(row["features"].get(name) or (None,))[0] for row in rows]
    table = pa.table({name: _array(values, TYPES[name]) for name, values in columns.items()})
    if options.positive:
        words = pa.array([options.negative, options.positive])
        table = table.set_column(5, "is_fraud", words.take(table["is_fraud"].combine_chunks()))
    renames = options.mapping
    folder.mkdir(parents=True)
    pq.write_table(
        table.rename_columns([renames.get(name, name) for name in table.column_names]), folder / "served.parquet"
    )
    return len(rows)


def _label_time(row: Mapping[str, Any]) -> int | None:
    """Return when the label arrived; a purchase may be ahead of the gateway's clock, and its label not before it."""
    return None if row["known"] is None else max(row["known"], row["journal"][1])


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind):
        values = [value.decode() if isinstance(value, bytes) else value for value in values]
    return pa.array(values, pa.int64()).cast(kind) if pa.types.is_timestamp(kind) else pa.array(values, kind)
