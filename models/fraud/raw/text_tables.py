"""Text tables of purchases: encoding, separator, header and rows of a file such as ``.csv``, all values as text."""

import csv
import io
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.csv

from models.errors import DataError
from models.fraud.raw.table_files import TableFile

HEAD = 1 << 16  # bytes in which the header is searched
BLOCK = 1 << 24  # bytes that are parsed at a time; a row must fit
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
# Byte order marks; that of UTF-16 begins that of UTF-32.
MARKS = {
    b"\xef\xbb\xbf": "utf-8",
    b"\xff\xfe\0\0": "utf-32-le",
    b"\0\0\xfe\xff": "utf-32-be",
    b"\xff\xfe": "utf-16-le",
    b"\xfe\xff": "utf-16-be",
}
MAGIC = {b"PAR1": ".parquet", b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst", b"PK\x03\x04": ".zip or .xlsx"}


@dataclass(frozen=True)
class TextTable:
    """A text table whose header has been read.

    Attributes:
        names: Names of the columns, as they are written.
        has_rows: Whether a row follows the header.
        conversions: What was converted: encoding and separator, other than UTF-8 and the name's.
    """

    names: list[str]
    has_rows: bool
    conversions: list[str]
    data: bytes
    separator: str

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Return the columns as text, an absent value as an empty text.

        Raises:
            DataError: for a row with another number of values than the header, or a quote that is not closed.
        """
        _check_quotes(self.data, self.separator)
        faults: list[pa.csv.InvalidRow] = []
        table = self._parse(columns, faults, use_threads=True)
        if faults:
            faults.clear()
            self._parse(columns, faults, use_threads=False)  # only a sequential parser numbers the rows
            raise DataError(_describe_rows(faults))
        return table

    def _parse(self, columns: Sequence[str], faults: list[pa.csv.InvalidRow], use_threads: bool) -> pa.Table:
        def collect(row: pa.csv.InvalidRow) -> str:
            faults.append(row)
            return "skip"

        return pa.csv.read_csv(
            io.BytesIO(self.data),
            read_options=pa.csv.ReadOptions(use_threads=use_threads, block_size=BLOCK),
            parse_options=pa.csv.ParseOptions(
                delimiter=self.separator, newlines_in_values=True, invalid_row_handler=collect
            ),
            convert_options=pa.csv.ConvertOptions(
                include_columns=columns, column_types=dict.fromkeys(columns, pa.string())
            ),
        )


def open_text_table(file: TableFile, expected: Collection[str]) -> TextTable:
    """Decompress and decode a file and read its header.

    Args:
        file: The file.
        expected: Names of columns; the separator is the one by which the header has most of them.

    Raises:
        DataError: if the file is truncated, is no text, or has an encoding that is not clear.
    """
    data = _decompress(file)
    data, conversions = _decode(data)
    head = data[:HEAD].decode("utf-8", "ignore")
    names = {separator: _read_header(head, separator) for separator in SEPARATORS}
    simple = {name.casefold() for name in expected}

    def rank(separator: str) -> tuple[int, bool]:
        return sum(name.strip().casefold() in simple for name in names[separator]), separator == file.separator

    separator = max(SEPARATORS, key=rank)
    if separator != file.separator:
        conversions.append(f"{SEPARATORS[separator]}-separated files")
    return TextTable(names[separator], _has_rows(head, separator), conversions, data, separator)


def _decompress(file: TableFile) -> bytes:
    with pa.input_stream(str(file.path), compression=file.codec or None) as stream:
        return bytes(stream.read())


def _decode(data: bytes) -> tuple[bytes, list[str]]:
    """Return the text as UTF-8 without a byte order mark, and the conversion, if any."""
    for magic, suffix in MAGIC.items():
        if data.startswith(magic):
            raise DataError(f"its content is {suffix}, not text; correct its name or unpack it.")
    mark = next((mark for mark in MARKS if data.startswith(mark)), b"")
    encoding = MARKS.get(mark, "utf-8")
    try:
        text = "" if encoding == "utf-8" and data.isascii() else data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start + len(mark)) + 1
        raise DataError(
            f"line {line} is not {encoding.upper()} (byte 0x{error.object[error.start]:02x}), so its encoding is not clear; "
            "save it as UTF-8, for example with `iconv -f WINDOWS-1252 -t UTF-8` if it is from Windows."
        ) from None
    data = text.encode() if encoding != "utf-8" else data[len(mark) :]
    if b"\0" in data:
        raise DataError("it has NUL bytes: it is binary, or UTF-16 without a byte order mark; save it as UTF-8.")
    return data, [f"{encoding[:6].rstrip('-').upper()} files with a byte order mark"] if mark else []


def _read_header(head: str, separator: str) -> list[str]:
    return next(filter(None, _read_rows(head, separator)), [])


def _has_rows(head: str, separator: str) -> bool:
    rows = filter(None, _read_rows(head, separator))
    return next(rows, None) is not None and next(rows, None) is not None


def _read_rows(text: str, separator: str) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text, newline=""), delimiter=separator)


def _check_quotes(data: bytes, separator: str) -> None:
    """Refuse a quote that is not closed: the parser would take the rows up to the next quote as a single value."""
    if b'"' not in data:
        return
    rows = csv.reader(io.TextIOWrapper(io.BytesIO(data), "utf-8", newline=""), delimiter=separator, strict=True)
    try:
        for _ in rows:
            pass
    except csv.Error as error:
        raise DataError(
            f"the quotes at line {rows.line_num} do not match ({error}); "
            'enclose a value in "..." and write a quote in it as "".'
        ) from None


def _describe_rows(faults: Sequence[pa.csv.InvalidRow]) -> str:
    first = faults[0]
    others = f", as have {len(faults) - 1} more rows" if len(faults) > 1 else ""
    return (
        f"row {first.number - 1} below the header has {first.actual_columns} values{others}, but the header has "
        f"{first.expected_columns} names: {first.text[:80]!r}; correct or drop the row, or quote values with separators."
    )
