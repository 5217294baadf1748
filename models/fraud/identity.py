"""Ids of purchases, customers and merchants: one rule for training data and for requests.

An id is text of 1 to ``MAX_ID_LENGTH`` characters, without surrounding blanks. A whole number is an id, too, and so is a
whole number that a table has stored as a float: 4000000000000000, 4e15 and the text ``4000000000000000.0`` are the same id.
The texts of category, channel and device follow the same rule, but may be missing.
"""

import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

MAX_ID_LENGTH = 128  # characters
MAX_CATEGORY_LENGTH = 64
# What pandas, Arrow, R and databases write for a missing value; as an id, it would join unrelated customers.
MISSING = frozenset(
    ("", "nan", "NaN", "NAN", "-nan", "null", "NULL", "None", "NaT", "<NA>", "NA", "N/A", "n/a", "#N/A")
)
BLANKS = "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
BLANKS += "\u2028\u2029\u202f\u205f\u3000"
# How pandas and Arrow write a whole float: 4001.0 or 4e+15. No other id looks like it; 12e4 may be a hexadecimal id.
FLOAT_TEXT = r"^-?[0-9]+\.0+$|^-?[0-9](\.[0-9]+)?[eE]\+[0-9]+$"
EXACT = 1 << 53  # floats below this are exact whole numbers
_float_text = re.compile(FLOAT_TEXT)


class IdentityError(ValueError):
    """A value cannot be an id.

    Args:
        reason: What is wrong and what to do.
        row: Number of the row in its column, from 0; None for a single value.
    """

    def __init__(self, reason: str, row: int | None = None) -> None:
        super().__init__(reason if row is None else f"row {row + 1}: {reason}")
        self.reason, self.row = reason, row


def normalise_id(value: Any) -> str:
    """Return a value as an id.

    Raises:
        IdentityError: for a missing or empty value, another type, a fraction, a float too large to be exact, or a text
            longer than ``MAX_ID_LENGTH``.

    Example:
        >>> normalise_id(" c17 "), normalise_id(4e15), normalise_id("4001.0")
        ('c17', '4000000000000000', '4001')
    """
    if value is None:
        raise IdentityError("the id is missing; give a text or a whole number")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise IdentityError(f"an id must be a text or a whole number, not {type(value).__name__}")
    text = value.strip(BLANKS) if isinstance(value, str) else str(value)
    if isinstance(value, float) or _float_text.search(text):
        text = _format_whole(float(text), text)
    if not text:
        raise IdentityError("the id is empty; give a text or a whole number")
    if text in MISSING:
        raise IdentityError(f"'{text}' stands for a missing value; give the id, or drop the row")
    if len(text) > MAX_ID_LENGTH:
        raise IdentityError(f"the id has {len(text)} characters; at most {MAX_ID_LENGTH} are allowed")
    return text


def _format_whole(number: float, text: str) -> str:
    if not number.is_integer():
        raise IdentityError(f"{text} is not a whole number; give the id as text")
    if abs(number) >= EXACT:
        raise IdentityError(
            f"{text} is a float, which holds whole numbers exactly only below 2^53; give the id as text"
        )
    return str(int(number))


def normalise_ids(column: pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of any type that can hold ids as text; each value is what :func:`normalise_id` returns for it.

    Raises:
        IdentityError: for the first value that is no id, with its row; or for a type that holds no ids.
    """
    source = _to_source(pa.chunked_array([column]) if isinstance(column, pa.Array) else column)
    _check_width(column, source)
    texts = _format_floats(source) if pa.types.is_floating(source.type) else pc.utf8_trim(source, BLANKS)
    texts = _replace_float_texts(texts)
    length = pc.fill_null(pc.utf8_length(texts), 0)
    valid = pc.and_(pc.greater(length, 0), pc.less_equal(length, MAX_ID_LENGTH))
    valid = pc.and_(valid, pc.invert(pc.is_in(texts, pa.array(sorted(MISSING)))))
    if (row := pc.index(valid, False).as_py()) >= 0:
        _raise_for_row(source, row)
    return texts


def normalise_category(value: str | None) -> str | None:
    """Return the text of a category, channel or device, or None if it is missing: blank, or a word such as NaN or null.

    Raises:
        IdentityError: for a text longer than ``MAX_CATEGORY_LENGTH``.

    Example:
        >>> normalise_category(" fuel "), normalise_category("5411.0"), normalise_category("nan")
        ('fuel', '5411', None)
    """
    text = (value or "").strip(BLANKS)
    if _float_text.search(text) and float(text).is_integer() and abs(float(text)) < EXACT:
        text = str(int(float(text)))
    if len(text) > MAX_CATEGORY_LENGTH:
        raise IdentityError(f"the text has {len(text)} characters; at most {MAX_CATEGORY_LENGTH} are allowed")
    return None if text in MISSING else text


def normalise_categories(column: pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as texts; each distinct value is what :func:`normalise_category` returns for it.

    Raises:
        IdentityError: for the first value that is too long, with its row; or for a type that holds no texts.
    """
    texts = _to_source(pa.chunked_array([column]) if isinstance(column, pa.Array) else column).cast(pa.string())
    values = pc.unique(texts)
    categories = []
    for value in values.to_pylist():
        try:
            categories.append(normalise_category(value))
        except IdentityError as error:
            raise IdentityError(error.reason, pc.index(texts, value).as_py()) from None
    rows = pc.index_in(texts, values).combine_chunks()
    return pa.chunked_array([pa.array(categories, pa.string()).take(rows)])


def _check_width(column: pa.Array | pa.ChunkedArray, source: pa.ChunkedArray) -> None:
    """Refuse narrow floats too large to be exact; as float64, they look like whole numbers."""
    digits = {pa.float16(): 11, pa.float32(): 24}.get(column.type)
    inexact = pc.greater_equal(pc.abs(source), float(1 << digits)) if digits else pa.chunked_array([], pa.bool_())
    if (row := pc.index(inexact, True).as_py()) >= 0:
        raise IdentityError(
            f"{source[row].as_py():.0f} is a {column.type}, which holds whole numbers exactly only below 2^{digits}; "
            "give the id as text",
            row,
        )


def _to_source(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the column as texts; a column of floats as float64."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_floating(kind):
        return column.cast(pa.float64())
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    if not any(holds(kind) for holds in (*texts, pa.types.is_integer, pa.types.is_decimal, pa.types.is_null)):
        raise IdentityError(f"the column must hold texts or whole numbers, not {kind}")
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid as error:
        raise IdentityError(f"the column cannot be read as text: {str(error).splitlines()[0]}") from None


def _format_floats(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the digits of whole numbers; null for other floats."""
    whole = pc.and_(pc.equal(column, pc.trunc(column)), pc.less(pc.abs(column), float(EXACT)))
    return pc.if_else(whole, column, None).cast(pa.int64()).cast(pa.string())


def _replace_float_texts(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Replace whole numbers that are written as floats; empty for those that are no ids."""
    mask = pc.fill_null(pc.match_substring_regex(texts, FLOAT_TEXT), False)
    if not pc.any(mask).as_py():
        return texts
    digits = [_digits_or_empty(text) for text in texts.filter(mask).to_pylist()]
    return pc.replace_with_mask(texts.combine_chunks(), mask.combine_chunks(), pa.array(digits, pa.string()))


def _digits_or_empty(text: str) -> str:
    try:
        return normalise_id(text)
    except IdentityError:
        return ""


def _raise_for_row(source: pa.ChunkedArray, row: int) -> None:
    try:
        normalise_id(source[row].as_py())
    except IdentityError as error:
        raise IdentityError(error.reason, row) from None
