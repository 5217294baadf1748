"""Purchases as Arrow tables: read them from spans, convert them to examples, and pack them as bytes."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.data.data_report import LISTED
from models.errors import DataError
from models.fraud.raw.columns import TYPES
from models.fraud.raw.duplicates import drop_copies, hash_rows
from models.fraud.raw.file_reader import ReadOptions, read_file
from models.fraud.raw.table_files import list_tables

# Columns that only decide which rows become examples, or that repeat another feature.
UNUSED = {"label_time", "past_length"}
BATCH = 8192


def read(folder: str | Path, settings: Mapping[str, Any]) -> pa.Table:
    """Read all purchases of a span with the columns of ``TYPES``, each purchase once.

    Without a ``label_time`` a label is assumed to arrive ``label_delay_days`` after its purchase.

    Args:
        folder: Folder of the span.
        settings: Settings of the group ``data``.

    Raises:
        DataError: for files that cannot be read; names the first faults.
    """
    options = ReadOptions.of(settings)
    contents = [read_file(file, options) for file in list_tables(Path(folder)).files]
    if faults := [fault for content in contents for fault in content.faults]:
        raise DataError("\n".join(faults[:LISTED]))
    empty = pa.schema(TYPES).empty_table()
    return drop_copies(pa.concat_tables([empty, *(content.table for content in contents)]))


def read_spans(folders: Iterable[str | Path], settings: Mapping[str, Any]) -> Iterator[pa.Table]:
    """Yield the purchases of each span without those that an earlier span has."""
    earlier: set[int] = set()
    for folder in folders:
        table = read(folder, settings)
        hashes = hash_rows(table).tolist()
        yield table.filter(pa.array([number not in earlier for number in hashes], pa.bool_()))
        earlier.update(hashes)


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
