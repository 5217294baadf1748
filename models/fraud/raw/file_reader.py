"""Read one file of purchases: find its columns, convert their types, and collect what is converted and what is faulty."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.errors import DataError
from models.fraud.event_times import TimeFormatError, read_times
from models.fraud.identity import IdentityError
from models.fraud.raw.columns import LARGEST, OPTIONAL, TYPES, ColumnError, escape, match_columns, parse_mapping
from models.fraud.raw.labels import read_labels
from models.fraud.raw.table_files import TableFile
from models.fraud.raw.text_tables import open_text_table
from models.fraud.raw.values import read_categories, read_ids, read_numbers, simplify_type

DAY_US = 86_400_000_000
# What Arrow raises for a damaged file; names in its schema may be no text.
DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)
IDS = ("transaction_id", "customer_id", "merchant_id")


@dataclass(frozen=True)
class ReadOptions:
    """The data settings that decide how a file is read.

    Attributes:
        mapping: Their names of columns by ours.
        label_delay_days: Days after which a label without a time is assumed to arrive.
        positive, negative: Values of the label for fraud and for an honest purchase; empty for 1 and 0.
    """

    mapping: Mapping[str, str]
    label_delay_days: int
    positive: str = ""
    negative: str = ""

    @staticmethod
    def of(settings: Mapping[str, Any]) -> "ReadOptions":
        """Return the options of the data settings; settings of older models may lack some.

        Raises:
            DataError: for a mapping that cannot be parsed, or only one of the two label values.
        """
        words = settings.get("positive_label", ""), settings.get("negative_label", "")
        if bool(words[0]) != bool(words[1]) or words[0] and words[0].casefold() == words[1].casefold():
            raise DataError("Set positive_label and negative_label to two different values, or neither of them.")
        return ReadOptions(parse_mapping(settings.get("columns", "")), settings["label_delay_days"], *words)


@dataclass(frozen=True)
class FileContent:
    """What a file holds.

    Attributes:
        table: The purchases with the columns of ``TYPES``, in the order of the file; without rows if there is a fault.
        rows: Number of rows in the file, as far as it can be read.
        unused: Columns that are not used.
        absent: Optional columns that the file lacks.
        converted: Number of values or files by conversion.
        faults: Messages, each with place and remedy.
    """

    table: pa.Table
    rows: int = 0
    unused: Sequence[str] = ()
    absent: Sequence[str] = ()
    converted: Mapping[str, int] = field(default_factory=dict)
    faults: Sequence[str] = ()


class _RawTable(Protocol):
    @property
    def names(self) -> list[str]: ...
    @property
    def has_rows(self) -> bool: ...
    @property
    def conversions(self) -> list[str]: ...
    def read(self, columns: Sequence[str]) -> pa.Table: ...


@dataclass(frozen=True)
class _ParquetTable:
    path: Path
    names: list[str]
    has_rows: bool
    conversions: list[str] = field(default_factory=list)

    @staticmethod
    def open(path: Path) -> "_ParquetTable":
        with pq.ParquetFile(path) as file:
            return _ParquetTable(path, file.schema_arrow.names, file.metadata.num_rows > 0)

    def read(self, columns: Sequence[str]) -> pa.Table:
        with pq.ParquetFile(self.path) as file:
            return file.read(columns=list(columns))


def read_file(file: TableFile, options: ReadOptions) -> FileContent:
    """Read a file; its faults are collected and do not raise."""
    try:
        table = _open(file, options)
        if not table.has_rows:
            return FileContent(_empty_table())
        folders = [name for name in file.partition if name not in table.names]
        names = [*table.names, *folders]
        present = match_columns(names, options.mapping)
        columns = [name for name in present.values() if name not in folders]
        raw = table.read(columns)
    except DataError as error:
        return FileContent(_empty_table(), faults=[f"{file.path}: {escape(str(error))}"])
    except DAMAGE as error:
        return FileContent(_empty_table(), faults=[_describe_damage(str(file.path), error)])
    values = {name: raw[name] for name in columns}
    values |= {name: _repeat(file.partition[name], raw.num_rows, pa.string()) for name in folders}
    content = _convert(file, {ours: values[theirs] for ours, theirs in present.items()}, raw.num_rows, options)
    converted = Counter(content.converted) + Counter(table.conversions)
    unused = [escape(name) or "(unnamed)" for name in names if name not in present.values()]
    return FileContent(content.table, raw.num_rows, unused, content.absent, converted, content.faults)


def _describe_damage(place: str, error: Exception) -> str:
    reason = escape((str(error).splitlines() or [type(error).__name__])[0].rstrip("."))
    return f"{place} cannot be read ({reason}); write it again or leave its span out with --spans."


def _open(file: TableFile, options: ReadOptions) -> _RawTable:
    if file.is_text:
        return open_text_table(file, {options.mapping.get(name, name) for name in TYPES})
    return _ParquetTable.open(file.path)


def _convert(file: TableFile, columns: Mapping[str, pa.ChunkedArray], rows: int, options: ReadOptions) -> FileContent:
    converted: Counter[str] = Counter()
    result, faults = {}, []
    for name, kind in TYPES.items():
        if name not in columns:
            result[name] = _repeat(OPTIONAL[name][1], rows, kind)
            continue
        try:
            result[name] = _convert_column(name, columns[name], options, converted)
        except (ColumnError, IdentityError, TimeFormatError) as error:
            place = "" if error.row is None else f", {file.name_row(error.row)}"
            theirs = options.mapping.get(name, name)
            faults.append(f"{file.path}{place}, column '{escape(theirs)}': {escape(error.reason.rstrip('.'))}.")
        except DAMAGE as error:
            faults.append(_describe_damage(f"{file.path}, column '{escape(options.mapping.get(name, name))}',", error))
    if not faults and (row := _find_early_label(result)) is not None:
        at, bought = result["label_time"][row], result["event_time"][row]
        faults = [
            f"{file.path}, {file.name_row(row)}, column '{options.mapping.get('label_time', 'label_time')}': "
            f"{at} lies before the purchase at {bought}; correct it, or leave it empty for label_delay_days."
        ]
    absent = [name for name in OPTIONAL if name not in columns]
    if faults:
        return FileContent(_empty_table(), rows, absent=absent, converted=converted, faults=faults)
    missing = pc.and_(pc.is_valid(result["is_fraud"]), pc.is_null(result["label_time"]))
    if "label_time" in columns and (count := pc.sum(missing).as_py()):
        converted["missing label_time read as label_delay_days after the purchase"] += count
    result["label_time"] = _complete_label_time(result, options.label_delay_days)
    return FileContent(pa.table(result), rows, absent=absent, converted=converted)


def _convert_column(
    name: str, column: pa.ChunkedArray, options: ReadOptions, converted: Counter[str]
) -> pa.ChunkedArray:
    if name in IDS:
        return read_ids(column, name, converted)
    if name == "is_fraud":
        return read_labels(column, options.positive, options.negative)
    if name in LARGEST:
        default = OPTIONAL[name][1] if name in OPTIONAL else None
        return read_numbers(column, name, converted, LARGEST[name], default)
    if TYPES[name] != pa.timestamp("us"):
        return read_categories(column, name, converted)
    times = read_times(simplify_type(column))
    if name not in OPTIONAL and times.values.null_count:
        raise ColumnError(
            "the time is missing; correct or drop the row", pc.index(pc.is_null(times.values), True).as_py()
        )
    if times.conversion:
        converted[f"{name} read as {times.conversion}"] += len(column)
    return times.values


def _find_early_label(columns: Mapping[str, pa.ChunkedArray]) -> int | None:
    """Return the first row whose label arrived before its purchase; None if there is none."""
    row = pc.index(pc.less(columns["label_time"], columns["event_time"]), True).as_py()
    return None if row < 0 else int(row)


def _complete_label_time(columns: Mapping[str, pa.ChunkedArray], delay: int) -> pa.ChunkedArray:
    """Return when each label arrived; null without a label, and ``delay`` days after the purchase without a time."""
    assumed = pc.add(columns["event_time"], pa.scalar(delay * DAY_US, pa.duration("us")))
    return pc.if_else(pc.is_valid(columns["is_fraud"]), pc.coalesce(columns["label_time"], assumed), None)


def _repeat(value: Any, count: int, kind: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([pa.repeat(pa.scalar(value, kind), count)])


def _empty_table() -> pa.Table:
    return pa.schema(TYPES).empty_table()
