"""Read card purchases from files as one table: rename columns, convert types, fill absent optional columns."""

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
# Type and default of optional columns that the data lacks; a null in an existing column stays null.
OPTIONAL = {
    "label_time": (pa.timestamp("us"), None),
    "category": (pa.string(), "none"),
    "channel": (pa.string(), "none"),
    "device": (pa.string(), "none"),
    "distance_km": (pa.float64(), 0.0),
}
# Columns that only decide which rows become examples, or that repeat another feature.
UNUSED = {"label_time", "past_length"}
DAY_US = 86_400_000_000
# A time of day with a zone, as in 2026-01-05T12:30:00Z or 12:30+02:00.
ZONE = r"\d:\d\d.*(Z|[+-]\d\d(:?\d\d)?)$"
BATCH = 8192


def check(folder: Path, mapping: str) -> tuple[int, int]:
    """Check that the files of a span are readable and have the columns; return its first and last day since the epoch.

    Raises:
        DataError: names the file and the problem.
    """
    renames = _parse_mapping(mapping)
    days = []
    for path in _list_files(folder):
        names = _read_column_names(path)
        missing = [name for name in REQUIRED if renames.get(name, name) not in names]
        if missing:
            raise DataError(
                f"{path} has no column '{renames.get(missing[0], missing[0])}'; it has {', '.join(names)}. "
                f"Map your column with --columns {missing[0]}=YOURS."
            )
        time = _cast(
            path, "event_time", _read_columns(path, [renames.get("event_time", "event_time")])[0], pa.timestamp("us")
        )
        if len(time) == 0:
            raise DataError(f"{path} has no rows; write the day's purchases to it or leave the day out with --spans.")
        if time.null_count:
            raise DataError(
                f"{path} has {time.null_count} purchase{'s' * (time.null_count > 1)} without event_time; "
                "correct or drop those rows."
            )
        low, high = pc.min_max(time).values()
        days += [bound.value // DAY_US for bound in (low, high)]
    return min(days), max(days)


def read(folder: str, mapping: str, label_delay_days: int) -> pa.Table:
    """Read all purchases of a span with the columns of REQUIRED and OPTIONAL.

    Without a ``label_time`` a label is assumed to arrive ``label_delay_days`` after its purchase.
    """
    table = pa.concat_tables([_read_purchases(path, mapping) for path in _list_files(Path(folder))])
    label_time = pc.add(table["event_time"], pa.scalar(label_delay_days * DAY_US, pa.duration("us")))
    label_time = pc.if_else(pc.is_valid(table["is_fraud"]), pc.coalesce(table["label_time"], label_time), None)
    return table.set_column(table.schema.get_field_index("label_time"), "label_time", label_time)


def to_examples(table: pa.Table) -> Iterator[pa.RecordBatch]:
    """Yield batches in the types of ``tf.Example``: every value is a list, a null an empty one."""
    columns = {name: _as_list(table[name].combine_chunks()) for name in table.column_names if name not in UNUSED}
    yield from pa.table(columns).to_batches(max_chunksize=BATCH)


def pack(table: pa.Table) -> bytes:
    """Serialize a table as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def unpack(data: bytes) -> pa.Table:
    """Read the table that :func:`pack` serialized."""
    return pa.ipc.open_stream(data).read_all()


def stable_hash(text: str) -> int:
    """Hash a text; unlike ``hash``, the result is the same in every process and version."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big")


def _parse_mapping(mapping: str) -> dict[str, str]:
    pairs = [pair.split("=", 1) for pair in mapping.split(",") if pair]
    unknown = [pair[0] for pair in pairs if len(pair) != 2 or pair[0] not in {**REQUIRED, **OPTIONAL}]
    if unknown:
        raise DataError(
            f"--columns takes OURS=YOURS pairs, and '{unknown[0]}' is none of {', '.join({**REQUIRED, **OPTIONAL})}."
        )
    return dict(pairs)


def _list_files(folder: Path) -> list[Path]:
    files = sorted(p for p in folder.rglob("*") if p.suffix in (".parquet", ".csv"))
    if not files:
        raise DataError(f"{folder} has no .parquet or .csv file; write the day's purchases to it or leave the day out.")
    return files


def _read_column_names(path: Path) -> list[str]:
    try:
        if path.suffix == ".parquet":
            return pq.read_schema(path).names
        with pa.csv.open_csv(path) as stream:
            return stream.schema.names
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{path} cannot be read ({_first_line(error)}); write it again or leave its span out with --spans."
        ) from error


def _read_columns(path: Path, columns: list[str]) -> pa.Table:
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


def _read_purchases(path: Path, mapping: str) -> pa.Table:
    renames, names = _parse_mapping(mapping), _read_column_names(path)
    types = {**REQUIRED, **{name: type_ for name, (type_, _) in OPTIONAL.items()}}
    present = {name: renames.get(name, name) for name in types if renames.get(name, name) in names}
    raw = _read_columns(path, list(present.values()))
    columns = {}
    for name, type_ in types.items():
        if name in present:
            columns[name] = _cast(path, present[name], raw[present[name]], type_)
        else:
            columns[name] = pa.chunked_array([pa.repeat(pa.scalar(OPTIONAL[name][1], type_), raw.num_rows)])
    return pa.table(columns)


def _cast(path: Path, name: str, column: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray:
    try:
        if pa.types.is_large_string(column.type):
            column = column.cast(pa.string())
        if type_ == pa.timestamp("us") and pa.types.is_string(column.type):
            has_zone = pc.any(pc.match_substring_regex(column, ZONE)).as_py()
            column = column.cast(pa.timestamp("us", "UTC" if has_zone else None))
        if type_ == pa.timestamp("us") and pa.types.is_timestamp(column.type) and column.type.tz:
            column = column.cast(pa.timestamp("us", column.type.tz))
        if type_ == pa.int8() and pa.types.is_string(column.type):
            column = pc.if_else(
                pc.is_in(pc.utf8_lower(column), pa.array(["true", "false"])),
                pc.equal(pc.utf8_lower(column), "true").cast(pa.string()),
                column,
            )
            column = pc.replace_substring(pc.replace_substring(column, "true", "1"), "false", "0")
        return column.cast(type_, safe=not pa.types.is_timestamp(type_))
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{path} has a column '{name}' that cannot be read as {type_} ({_first_line(error)}); correct the file."
        ) from error


def _as_list(column: pa.Array) -> pa.Array:
    """Convert strings to bytes, times to seconds, integers to int64 and floats to float32, each value in its own list."""
    if pa.types.is_fixed_size_list(column.type) or pa.types.is_list(column.type):
        return _lists_to_lists(column)
    if pa.types.is_timestamp(column.type):
        column = pc.divide(column.cast(pa.int64()), 1_000_000)
    type_ = pa.float32() if pa.types.is_floating(column.type) else pa.int64()
    values = column.cast(pa.binary() if pa.types.is_string(column.type) else type_)
    lengths = pc.is_valid(values).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values.drop_null())


def _lists_to_lists(column: pa.Array) -> pa.Array:
    values = column.flatten()
    values = values.cast(pa.binary() if pa.types.is_string(values.type) else pa.float32())
    size = len(values) // max(len(column), 1)
    return pa.ListArray.from_arrays(pa.array(np.arange(len(column) + 1, dtype=np.int32) * size), values)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")
