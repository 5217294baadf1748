"""Labels of purchases: fraud or not, from booleans, 0 and 1 as any type, or a pair of words that the settings name."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from models.fraud.raw.columns import ColumnError
from models.fraud.raw.values import simplify_type

STANDARD = {"true": 1, "false": 0, "1": 1, "0": 0}
LISTED = 6  # distinct values that a message names


def read_labels(column: pa.ChunkedArray, positive: str = "", negative: str = "") -> pa.ChunkedArray:
    """Return 1 for fraud, 0 for an honest purchase and null for no label, as int8.

    Args:
        column: Labels of any type.
        positive: The value that means fraud, in any case; empty for true and 1.
        negative: The value that means an honest purchase; empty for false and 0.

    Raises:
        ColumnError: for the first value that is none of the two; names the distinct values.
    """
    words = {_to_word(positive): 1, _to_word(negative): 0} if positive or negative else STANDARD
    column = simplify_type(column)
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    if pa.types.is_nested(column.type):
        raise ColumnError(f"a column of {column.type} holds no labels; write 1, 0 or nothing.")
    values = pc.unique(column.drop_null())
    labels = []
    for value in values.to_pylist():
        if (word := _to_word(value)) not in words:
            row = pc.index(column, pa.scalar(value, column.type)).as_py()
            raise ColumnError(_describe(value, values.to_pylist(), bool(positive or negative)), row)
        labels.append(words[word])
    return pa.chunked_array([pa.array(labels, pa.int8()).take(pc.index_in(column, values).combine_chunks())])


def _to_word(value: Any) -> str:
    """Return a value as a text that is equal for equal labels: 1, 1.0, "1.0" and " 1" are the same."""
    text = str(value).strip().casefold()
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() else text


def _describe(value: Any, values: list[Any], has_words: bool) -> str:
    texts = [str(value)[:40] for value in values]
    listed = ", ".join(f"'{text}'" for text in texts[:LISTED]) + (", ..." if len(texts) > LISTED else "")
    remedy = "write 1 for fraud, 0 for an honest purchase and nothing for no label"
    if len(texts) == 2 and not has_words:
        remedy += ", or name the two values as in --set positive_label=yes --set negative_label=no"
    elif has_words:
        remedy = "correct the row, or --set positive_label and --set negative_label"
    return f"'{str(value)[:40]}' is not a label, the column has {listed}; {remedy}."
