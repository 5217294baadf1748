"""Anybody's card purchases as one table: files read, columns renamed and typed, what is absent filled."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from models.errors import DataError

REQUIRED = {
    "transaction_id": pa.string(),
    "event_time": pa.timestamp("us"),
    "customer_id": pa.string(),
    "merchant_id": pa.string(),
    "amount": pa.float64(),
    "is_fraud": pa.int8(),
}
# What stands for an optional column that the data does not have at all; a null in a column that is there stays null.
OPTIONAL = {
    "label_time": (pa.timestamp("us"), None),
    "category": (pa.string(), "none"),
    "channel": (pa.string(), "none"),
    "device": (pa.string(), "none"),
    "distance_km": (pa.float64(), 0.0),
}
# Columns that decide which rows are examples, or that another feature holds already.
UNUSED = {"label_time", "past_length"}
DAY_US = 86_400_000_000
# A time of day that ends with a zone, as in 2026-01-05T12:30:00Z or 12:30+02:00.
ZONE = r"\d:\d\d.*(Z|[+-]\d\d(:?\d\d)?)$"
BATCH = 8192


def check(folder: Path, mapping: str) -> tuple[int, int]:
    """The first and last day, in days since the epoch, of a span whose files are readable and have the columns.

    Raises:
        DataError: naming the file and what is wrong with it.
    """
    renames = _renames(mapping)
    days = []
    for path in _files(folder):
        names = _names(path)
        lacking = [name for name in REQUIRED if renames.get(name, name) not in names]
        if lacking:
            raise DataError(
                f"{path} has no column '{renames.get(lacking[0], lacking[0])}'; it has {', '.join(names)}. "
                f"Name yours with --columns {lacking[0]}=YOURS."
            )
        time = _cast(path, "event_time", _load(path, [renames.get("event_time", "event_time")])[0], pa.timestamp("us"))
        if len(time) == 0:
            raise DataError(f"{path} has no rows; write the day's purchases there or leave the day out with --spans.")
        if time.null_count:
            raise DataError(
                f"{path} has {time.null_count} purchase{'s' * (time.null_count > 1)} without event_time; "
                "mend or drop those rows."
            )
        low, high = pc.min_max(time).values()
        days += [bound.value // DAY_US for bound in (low, high)]
    return min(days), max(days)


def read(folder: str, mapping: str, label_delay_days: int) -> pa.Table:
    """All purchases of a span with the columns of REQUIRED and OPTIONAL.

    Without a ``label_time`` a label counts as known ``label_delay_days`` after its purchase.
    """
    table = pa.concat_tables([_conform(path, mapping) for path in _files(Path(folder))])
    known = pc.add(table["event_time"], pa.scalar(label_delay_days * DAY_US, pa.duration("us")))
    known = pc.if_else(pc.is_valid(table["is_fraud"]), pc.coalesce(table["label_time"], known), None)
    return table.set_column(table.schema.get_field_index("label_time"), "label_time", known)


def to_examples(table: pa.Table) -> Iterator[pa.RecordBatch]:
    """Batches in the types of ``tf.Example``: every column a list, a null an empty one."""
    columns = {name: _as_list(table[name].combine_chunks()) for name in table.column_names if name not in UNUSED}
    yield from pa.table(columns).to_batches(max_chunksize=BATCH)


def pack(table: pa.Table) -> bytes:
    """A table as the bytes of an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def unpack(data: bytes) -> pa.Table:
    """The table of :func:`pack`."""
    return pa.ipc.open_stream(data).read_all()


def stable_hash(text: str) -> int:
    """The same in every process and version, unlike ``hash``."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big")


def _renames(mapping: str) -> dict[str, str]:
    pairs = [pair.split("=", 1) for pair in mapping.split(",") if pair]
    unknown = [pair[0] for pair in pairs if len(pair) != 2 or pair[0] not in {**REQUIRED, **OPTIONAL}]
    if unknown:
        raise DataError(
            f"--columns takes OURS=YOURS pairs, and '{unknown[0]}' is none of {', '.join({**REQUIRED, **OPTIONAL})}."
        )
    return dict(pairs)


def _files(folder: Path) -> list[Path]:
    files = sorted(p for p in folder.rglob("*") if p.suffix in (".parquet", ".csv"))
    if not files:
        raise DataError(f"{folder} has no .parquet or .csv file; write the day's purchases there or leave the day out.")
    return files


def _names(path: Path) -> list[str]:
    try:
        if path.suffix == ".parquet":
            return pq.read_schema(path).names
        with pa.csv.open_csv(path) as stream:
            return stream.schema.names
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{path} cannot be read ({_first_line(error)}); write it again or leave its span out with --spans."
        ) from error


def _load(path: Path, columns: list[str]) -> pa.Table:
    try:
        if path.suffix == ".parquet":
            return pq.ParquetFile(path).read(columns=columns)
        text = {name: pa.string() for name in columns}
        options = pa.csv.ConvertOptions(include_columns=columns, column_types=text, strings_can_be_null=True)
        return pa.csv.read_csv(path, convert_options=options)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{path} cannot be read ({_first_line(error)}); write it again or leave its span out with --spans."
        ) from error


def _conform(path: Path, mapping: str) -> pa.Table:
    renames, names = _renames(mapping), _names(path)
    wanted = {**REQUIRED, **{name: kind for name, (kind, _) in OPTIONAL.items()}}
    there = {name: renames.get(name, name) for name in wanted if renames.get(name, name) in names}
    raw = _load(path, list(there.values()))
    columns = {}
    for name, kind in wanted.items():
        if name in there:
            columns[name] = _cast(path, there[name], raw[there[name]], kind)
        else:
            columns[name] = pa.chunked_array([pa.repeat(pa.scalar(OPTIONAL[name][1], kind), raw.num_rows)])
    return pa.table(columns)


def _cast(path: Path, name: str, column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    try:
        if pa.types.is_large_string(column.type):
            column = column.cast(pa.string())
        if kind == pa.timestamp("us") and pa.types.is_string(column.type):
            zoned = pc.any(pc.match_substring_regex(column, ZONE)).as_py()
            column = column.cast(pa.timestamp("us", "UTC" if zoned else None))
        if kind == pa.timestamp("us") and pa.types.is_timestamp(column.type) and column.type.tz:
            column = column.cast(pa.timestamp("us", column.type.tz))
        if kind == pa.int8() and pa.types.is_string(column.type):
            column = pc.if_else(
                pc.is_in(pc.utf8_lower(column), pa.array(["true", "false"])),
                pc.equal(pc.utf8_lower(column), "true").cast(pa.string()),
                column,
            )
            column = pc.replace_substring(pc.replace_substring(column, "true", "1"), "false", "0")
        return column.cast(kind, safe=not pa.types.is_timestamp(kind))
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{path} has a column '{name}' that cannot be read as {kind} ({_first_line(error)}); mend the file."
        ) from error


def _as_list(column: pa.Array) -> pa.Array:
    """Strings to bytes, times to seconds, integers to int64, floats to float32, each value in a list of its own."""
    if pa.types.is_fixed_size_list(column.type) or pa.types.is_list(column.type):
        return _widened(column)
    if pa.types.is_timestamp(column.type):
        column = pc.divide(column.cast(pa.int64()), 1_000_000)
    kind = pa.float32() if pa.types.is_floating(column.type) else pa.int64()
    values = column.cast(pa.binary() if pa.types.is_string(column.type) else kind)
    lengths = pc.is_valid(values).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values.drop_null())


def _widened(column: pa.Array) -> pa.Array:
    values = column.flatten()
    values = values.cast(pa.binary() if pa.types.is_string(values.type) else pa.float32())
    size = len(values) // max(len(column), 1)
    return pa.ListArray.from_arrays(pa.array(np.arange(len(column) + 1, dtype=np.int32) * size), values)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")
