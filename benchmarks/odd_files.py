"""Random spellings of purchases in text tables and Parquet files, some with a fault."""

import bz2
import csv
import gzip
import io
from collections.abc import Callable
from datetime import datetime
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Row = dict[str, Any]
REQUIRED = ("transaction_id", "event_time", "customer_id", "merchant_id", "amount", "is_fraud")
MISSING_WORDS = ("", "nan", "NaN", "NULL", "None", "NA")

# Text tables.

TEXT_FAULTS = ("value", "fields", "header", "no header", "column twice", "column absent", "encoding", "quote", "name")
VALUE_FAULTS: tuple[tuple[str, str], ...] = (
    ("amount", "+nan"),
    ("amount", "inf"),
    ("amount", "-1"),
    ("amount", "12 EUR"),
    ("amount", ""),
    ("amount", "1,234.50"),
    ("is_fraud", "2"),
    ("is_fraud", "-1"),
    ("is_fraud", "maybe"),
    ("event_time", ""),
    ("event_time", "05/01/2026"),
    ("event_time", "2026-02-30"),
    ("customer_id", " "),
    ("merchant_id", "nan"),
    ("transaction_id", "x" * 129),
    ("transaction_id", "1.5e+0"),
)


def format_text_file(random: Random, names: list[str], rows: list[Row], fault: str | None) -> tuple[str, bytes]:
    """Return the suffix and content of a text table with the columns ``names``, and with a fault if it is given."""
    separator, spell = random.choice(",,,;\t|"), _draw_spelling(random)
    table = [[spell(name, row[name]) for name in names] for row in rows]
    header = list(names)
    if random.random() < 0.3:
        header, table = (
            ["", *header, "note"],
            [[str(n), *row, random.choice(("", "a\nb", 'say "é"'))] for n, row in enumerate(table)],
        )
    if fault == "value":
        name, value = random.choice(VALUE_FAULTS)
        random.choice(table)[header.index(name)] = value
    elif fault == "fields":
        random.choice(table).append("x")
    elif fault == "header":
        header[header.index("amount")] = random.choice((" amount", "Amount", "AMOUNT ", "amounts"))
    elif fault == "column twice":
        header, table = [*header, "customer_id"], [[*row, "c"] for row in table]
    elif fault == "column absent":
        position = header.index(random.choice(REQUIRED))
        header, *table = ([value for n, value in enumerate(row) if n != position] for row in (header, *table))
    text = _format_text(random, separator, table if fault == "no header" else [header, *table])
    if fault == "quote":
        text += text.splitlines()[-1].replace(separator, f'{separator}"', 1)
    data = _encode(random, text, fault)
    suffix = {"\t": ".tsv"}.get(separator, ".csv") if random.random() < 0.8 else ".csv"
    pack, ending = random.choice(PACKINGS)
    suffix = suffix.upper() if random.random() < 0.2 else suffix
    return (".parquet", data) if fault == "name" else (suffix + ending, pack(data))


def _format_text(random: Random, separator: str, table: list[list[str]]) -> str:
    stream = io.StringIO()
    end = random.choice(("\n", "\n", "\r\n"))
    quote_all = random.random() < 0.2
    writer = csv.writer(
        stream,
        delimiter=separator,
        lineterminator=end,
        quoting=csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL,
    )
    writer.writerows(table)
    return stream.getvalue()


def _encode(random: Random, text: str, fault: str | None) -> bytes:
    if fault == "encoding":
        return random.choice((text.encode("utf-16-le"), (text + "é").encode("latin-1", "replace")))
    return text.encode(random.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16")))


def _draw_spelling(random: Random) -> Callable[[str, Any], str]:
    """Draw how a program spells values in a text table."""
    missing, blank = random.choice(MISSING_WORDS), random.choice(("", "", " "))
    labels = random.choice((("0", "1"), ("0.0", "1.0"), ("False", "True"), ("false", "TRUE")))
    zone, comma = random.choice(("", "", "Z", "+00:00")), random.random() < 0.1

    def spell(name: str, value: Any) -> str:
        if value is None:
            return missing
        if name == "is_fraud":
            return labels[value]
        if isinstance(value, datetime):
            return value.isoformat(random.choice("T ")) + zone
        if isinstance(value, float):
            return f"{value:.2f}".replace(".", "," if comma else ".")
        return blank + value + blank

    return spell


PACKINGS: tuple[tuple[Callable[[bytes], bytes], str], ...] = (
    (bytes, ""),
    (bytes, ""),
    (gzip.compress, ".gz"),
    (bz2.compress, ".bz2"),
    (lambda data: pa.Codec("zstd").compress(data, asbytes=True), ".zst"),
)

# Parquet files.

PARQUET_FAULTS = ("null", "nan", "negative", "label", "fraction", "time", "absent", "text amount", "twice")


def format_parquet_file(random: Random, names: list[str], rows: list[Row], fault: str | None) -> tuple[str, bytes]:
    """Return the suffix and content of a Parquet file with the columns ``names``, and with a fault if it is given."""
    columns = {name: _draw_column(random, name, [row[name] for row in rows]) for name in names}
    if random.random() < 0.3:
        columns["__index_level_0__"] = pa.array(range(len(rows)))
    if fault:
        _spoil_columns(random, columns, len(rows), fault)
    table = pa.Table.from_arrays(list(columns.values()), names=list(columns))
    if fault == "twice":
        table = table.append_column("amount", columns["amount"])
    sink = io.BytesIO()
    pq.write_table(table, sink, compression=random.choice(("snappy", "zstd", "none")), row_group_size=3)
    return random.choice((".parquet", ".pq", ".PARQUET", ".snappy.parquet")), sink.getvalue()


def _draw_column(random: Random, name: str, values: list[Any]) -> pa.Array:
    """Write values in a type that holds them exactly."""
    if name in ("event_time", "label_time"):
        zone = random.choice((None, "UTC", "America/New_York"))
        return pa.array(values, pa.timestamp("us")).cast(pa.timestamp(random.choice(("ms", "us", "ns")), zone))
    if name == "is_fraud":
        return pa.array(values, pa.int8()).cast(
            random.choice((pa.int64(), pa.float64(), pa.bool_(), pa.string(), pa.uint8()))
        )
    if name in ("amount", "distance_km"):
        return pa.array(values, pa.float64()).cast(random.choice((pa.float64(), pa.float64(), pa.decimal128(12, 2))))
    if values and all(value and value.isdigit() and str(int(value)) == value for value in values):
        return pa.array([int(value) for value in values]).cast(random.choice((pa.int64(), pa.float64())))
    texts = pa.array(values, pa.string())
    return (
        texts.dictionary_encode()
        if random.random() < 0.3
        else texts.cast(random.choice((pa.string(), pa.large_string(), pa.binary())))
    )


def _spoil_columns(random: Random, columns: dict[str, pa.Array], count: int, fault: str) -> None:
    name, value, kind = {
        "null": (random.choice(("customer_id", "amount", "event_time", "transaction_id")), None, None),
        "nan": ("amount", float("nan"), pa.float64()),
        "negative": ("amount", -0.5, pa.float64()),
        "label": ("is_fraud", 3, pa.int64()),
        "fraction": ("merchant_id", 1.5, pa.float64()),
        "time": ("event_time", "soon", pa.string()),
        "text amount": ("amount", "1.234,5", pa.string()),
    }.get(fault, ("", None, None))
    if fault == "absent":
        del columns[random.choice(REQUIRED)]
    elif name:
        row = random.randrange(count)
        values = columns[name].to_pylist() if kind is None else [None if name == "is_fraud" else value] * count
        values[row] = value
        columns[name] = pa.array(values, kind or columns[name].type)
