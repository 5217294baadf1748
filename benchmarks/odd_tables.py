"""Random folders of purchases as people and programs write them, and what reading them has to give.

A case is drawn from a random stream: files in many formats, encodings and layouts, some with a fault. For every row that a
file holds, the case knows the purchase that has to be read; a fault has to be refused.
"""

import bz2
import csv
import gzip
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from models.fraud.identity import normalise_id

Row = dict[str, Any]
START = datetime(2026, 1, 5)
REQUIRED = ("transaction_id", "event_time", "customer_id", "merchant_id", "amount", "is_fraud")
DEFAULTS = {"category": "none", "channel": "none", "device": "none", "distance_km": 0.0, "label_time": None}
CHARACTERS = "abcXYZ0123456789-_.,;|\t\"'/\\= \n€éß漢🙂"
MISSING_WORDS = ("", "nan", "NaN", "NULL", "None", "NA")
COMPANIONS = ("notes.txt", "_SUCCESS", ".part-0.csv.crc", ".ipynb_checkpoints/a.csv", "sheet.xlsx", "part-00007")
DELAY = timedelta(days=7)


@dataclass
class OddCase:
    """A folder of spans and what reading it has to give.

    Attributes:
        spans: Folder of each span by its number.
        files: Number of files in them.
        rows: Expected purchases of each file that can be read, in order.
        faults: What has to be refused; empty if everything has to be read.
        damaged: Whether bytes of a file were changed at random, so that anything but a crash is right.
    """

    spans: dict[int, Path]
    files: int = 0
    rows: list[list[Row]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    damaged: bool = False

    def find_repetitions(self) -> list[str]:
        """Return faults that follow from rows of several files: shared ids, and files that are all in another."""
        by_id: dict[str, Row] = {}
        faults = [
            f"the id {row['transaction_id']!r} has two rows"
            for rows in self.rows
            for row in rows
            if by_id.setdefault(row["transaction_id"], row) != row
        ]
        sets = [{row["transaction_id"] for row in rows} for rows in self.rows]
        faults += [
            f"file {number} is in file {other}"
            for number, ids in enumerate(sets)
            for other, others in enumerate(sets)
            if number != other and ids and ids <= others
        ]
        return faults


def draw_case(random: Random, folder: Path) -> OddCase:
    """Write a random case to a folder that is empty or does not exist."""
    count = random.randint(1, 3)
    spans = {number: folder / f"span-{number:03d}" for number in range(count)} if count > 1 else {0: folder}
    case = OddCase(spans)
    for span in spans.values():
        before = len(case.rows)
        for number in range(random.randint(1, 3)):
            _draw_file(random, case, span, f"file{number}")
        if not any(case.rows[before:]) and not case.faults:
            case.faults.append(f"{span.name} has no purchases")
        if random.random() < 0.3:
            _write(case, span / random.choice(COMPANIONS), b"x")
    case.faults += case.find_repetitions()
    if random.random() < 0.1:
        _damage(random, case)
    return case


def _draw_file(random: Random, case: OddCase, span: Path, stem: str) -> None:
    rows = [_draw_row(random, f"{span.name}-{stem}-{number}") for number in range(random.choice((0, 2, 4, 6, 9)))]
    earlier = [row for other in case.rows for row in other]
    if rows and earlier and random.random() < 0.08:
        rows.insert(
            random.randint(0, len(rows)), random.choice(earlier) | ({"amount": 0.25} if random.random() < 0.2 else {})
        )
    optional = [name for name in DEFAULTS if random.random() < 0.5]
    names = [*REQUIRED, *optional]
    random.shuffle(names)
    rows = [{**row, **{name: value for name, value in DEFAULTS.items() if name not in optional}} for row in rows]
    is_text = random.random() < 0.6
    fault = random.choice(TEXT_FAULTS if is_text else PARQUET_FAULTS) if rows and random.random() < 0.06 else None
    (_write_text_file if is_text else _write_parquet_file)(random, case, span / stem, names, rows, fault)
    if fault:
        case.faults.append(f"{fault} in {span.name}/{stem}")
    else:
        case.rows.append([_complete(row) for row in rows])


def _complete(row: Row) -> Row:
    """Return the purchase that has to be read."""
    assumed = row["label_time"] or row["event_time"] + DELAY
    return {**row, "label_time": None if row["is_fraud"] is None else assumed}


def _draw_row(random: Random, name: str) -> Row:
    time = START + timedelta(
        days=random.randint(0, 9), seconds=random.randint(0, 86_399), milliseconds=random.choice((0, 250))
    )
    return {
        "transaction_id": name if random.random() < 0.7 else name + _draw_id(random),
        "event_time": time,
        "customer_id": _draw_id(random),
        "merchant_id": _draw_id(random),
        "amount": random.randint(0, 10 ** random.randint(1, 8)) / 100,
        "is_fraud": random.choice((0, 0, 1, None)),
        "label_time": random.choice((None, time + timedelta(days=random.randint(0, 9)))),
        "category": random.choice((None, "fuel", "food, drinks", "5411", "Café")),
        "channel": random.choice(("chip", "online")),
        "device": random.choice((None, "phone")),
        "distance_km": random.choice((0.0, 12.5, 25_000.0)),
    }


def _draw_id(random: Random) -> str:
    """Draw an id that is written as it is read."""
    while True:
        text = "".join(random.choice(CHARACTERS) for _ in range(random.randint(1, 12)))
        text = text if random.random() < 0.5 else str(random.randint(0, 4 * 10**15))
        try:
            if normalise_id(text) == text:
                return text
        except ValueError:
            continue


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


def _write_text_file(
    random: Random, case: OddCase, path: Path, names: list[str], rows: list[Row], fault: str | None
) -> None:
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
    _write(
        case,
        Path(f"{path}{'.parquet' if fault == 'name' else suffix + ending}"),
        data if fault == "name" else pack(data),
    )


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


def _write_parquet_file(
    random: Random, case: OddCase, path: Path, names: list[str], rows: list[Row], fault: str | None
) -> None:
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
    _write(case, Path(f"{path}{random.choice(('.parquet', '.pq', '.PARQUET', '.snappy.parquet'))}"), sink.getvalue())


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


def _damage(random: Random, case: OddCase) -> None:
    """Cut a file off, or change one of its bytes."""
    paths = [path for span in case.spans.values() for path in sorted(span.rglob("file*")) if path.stat().st_size]
    if paths:
        path = random.choice(paths)
        data = bytearray(path.read_bytes())
        position = random.randrange(len(data))
        if random.random() < 0.5:
            del data[position:]
        else:
            data[position] = random.randrange(256)
        path.write_bytes(bytes(data))
        case.damaged = True


def _write(case: OddCase, path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    case.files += 1
