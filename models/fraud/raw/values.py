"""Values of purchases: numbers and texts of a column of any type, checked; a fault names its row."""

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from models.fraud.identity import BLANKS, MISSING, normalise_categories, normalise_ids
from models.fraud.raw.columns import ColumnError

NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
COMMA_NUMBER = r"^[+-]?[0-9]+,[0-9]+$"
THREE_DECIMALS = r",[0-9]{3}$"


def simplify_type(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column without dictionary, of texts as ``string``, trimmed and null for a word such as NaN or null."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not is_text(column.type):
        return column
    try:
        column = pc.utf8_trim(column.cast(pa.string()), BLANKS)
    except pa.ArrowInvalid:
        raise ColumnError("its bytes are not UTF-8 text; write texts in UTF-8.") from None
    return pc.if_else(pc.is_in(column, pa.array(sorted(MISSING))), None, column)


def is_text(kind: pa.DataType) -> bool:
    """Whether values of a type are texts, also as bytes."""
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(check(kind) for check in (*checks, pa.types.is_binary, pa.types.is_large_binary))


def read_ids(column: pa.ChunkedArray, name: str, converted: Counter[str]) -> pa.ChunkedArray:
    """Return ids by the rule of ``models.fraud.identity``.

    Raises:
        IdentityError: for the first value that is no id.
    """
    return _count_changes(column, normalise_ids(column), f"blanks or float notation in {name}", converted)


def read_categories(column: pa.ChunkedArray, name: str, converted: Counter[str]) -> pa.ChunkedArray:
    """Return texts of a few distinct values by the rule of ``models.fraud.identity``, missing ones as null.

    Raises:
        IdentityError: for the first value that is too long.
    """
    return _count_changes(column, normalise_categories(column), f"blanks or missing words in {name}", converted)


def _count_changes(
    column: pa.ChunkedArray, result: pa.ChunkedArray, reason: str, converted: Counter[str]
) -> pa.ChunkedArray:
    if pa.types.is_floating(column.type):
        changes = len(column) - column.null_count
    elif is_text(column.type):
        before = pc.fill_null(column.cast(pa.string()), "")
        changes = pc.sum(pc.not_equal(before, pc.fill_null(result, ""))).as_py() or 0
    else:
        changes = 0
    converted.update({reason: changes} if changes else {})
    return result


def read_numbers(
    column: pa.ChunkedArray,
    name: str,
    converted: Counter[str],
    largest: float,
    default: float | None = None,
) -> pa.ChunkedArray:
    """Return finite numbers from 0 to ``largest`` as float64.

    Args:
        column: Numbers, or texts of numbers.
        name: Our name of the column.
        converted: Counts the conversions.
        largest: The largest number.
        default: Stands in for missing values and NaN; None to refuse them.

    Raises:
        ColumnError: for the first value that is no number of this range.
    """
    column = simplify_type(column)
    numbers = _parse_numbers(column, name, converted) if pa.types.is_string(column.type) else _cast_numbers(column)
    missing = pc.fill_null(pc.is_nan(numbers), True)
    count = pc.sum(missing).as_py() or 0
    if count and default is None:
        _raise_first(missing, column, "a value is missing; correct or drop the row.")
    if count:
        converted[f"missing {name} read as {default:g}"] += count
        numbers = pc.if_else(missing, default, numbers)
    outside = pc.invert(pc.and_(pc.greater_equal(numbers, 0.0), pc.less_equal(numbers, largest)))
    _raise_first(outside, column, f"{{}} is not between 0 and {largest:,.0f}; correct or drop the row.")
    return numbers


def _cast_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    checks = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
    if not any(check(kind) for check in checks):
        raise ColumnError(f"a column of {kind} holds no numbers; write numbers such as 1234.56.")
    if pa.types.is_float16(kind):
        column = column.cast(pa.float32())
    if pa.types.is_decimal(kind):
        column = column.cast(pa.string())  # a cast to a float would not give the float that is nearest
    return column.cast(pa.float64(), safe=False)


def _parse_numbers(texts: pa.ChunkedArray, name: str, converted: Counter[str]) -> pa.ChunkedArray:
    texts = _replace_commas(texts, name, converted)
    wrong = pc.invert(pc.match_substring_regex(texts, NUMBER))
    _raise_first(pc.fill_null(wrong, False), texts, "'{}' is not a number such as 1234.56; correct or drop the row.")
    return texts.cast(pa.float64())


def _replace_commas(texts: pa.ChunkedArray, name: str, converted: Counter[str]) -> pa.ChunkedArray:
    """Replace decimal commas, if it is clear that they are: 1,234 alone may be a thousand and more."""
    commas = pc.match_substring_regex(texts, COMMA_NUMBER)
    count = pc.sum(commas).as_py() or 0
    if not count:
        return texts
    in_commas = texts.filter(pc.fill_null(commas, False))
    if pc.all(pc.match_substring_regex(in_commas, THREE_DECIMALS)).as_py():
        _raise_first(commas, texts, "'{}' may have a decimal comma or a thousands separator; write 1234.56.")
    points = pc.match_substring_regex(texts, r"\.")
    _raise_first(points, texts, "'{}' has a point where other values have a decimal comma; write all as 1234.56.")
    converted[f"decimal commas in {name}"] += count
    return pc.replace_substring(texts, ",", ".")


def _raise_first(mask: pa.ChunkedArray, column: pa.ChunkedArray, reason: str) -> None:
    """Raise for the first row of the mask; ``{}`` in the reason is its value, and further rows are counted."""
    row = pc.index(mask, True).as_py()
    if row >= 0:
        rest = (pc.sum(mask).as_py() or 0) - 1
        others = f" {rest:,} more row{'s have' if rest > 1 else ' has'} this fault." if rest else ""
        raise ColumnError(reason.format(str(column[row].as_py())[:40]) + others, row)
