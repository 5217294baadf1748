"""Write served purchases as a raw span, so that a model can be retrained on them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from models.fraud import purchases

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
    columns |= {"is_fraud": [row["label"] for row in rows], "label_time": [row["known"] for row in rows]}
    for name in (*TEXTS, *NUMBERS):
        columns[name] = [(row["features"].get(name) or (None,))[0] for row in rows]
    kinds = {**purchases.REQUIRED, **{name: kind for name, (kind, _) in purchases.OPTIONAL.items()}}
    table = pa.table({name: _array(values, kinds[name]) for name, values in columns.items()})
    renames = dict(pair.split("=", 1) for pair in settings["columns"].split(",") if pair)
    folder.mkdir(parents=True)
    pq.write_table(
        table.rename_columns([renames.get(name, name) for name in table.column_names]), folder / "served.parquet"
    )
    return len(rows)


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind):
        values = [value.decode() if isinstance(value, bytes) else value for value in values]
    return pa.array(values, pa.int64()).cast(kind) if pa.types.is_timestamp(kind) else pa.array(values, kind)
