"""Columns of purchases: names, types, defaults, and how they are found in a file."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import pyarrow as pa

from models.errors import DataError

REQUIRED = {
    "transaction_id": pa.string(),
    "event_time": pa.timestamp("us"),
    "customer_id": pa.string(),
    "merchant_id": pa.string(),
    "amount": pa.float64(),
    "is_fraud": pa.int8(),
}
# Stand-ins for texts and distances that a file or a request lacks; a null text in an existing column stays null.
NO_TEXT, NO_DISTANCE = "none", 0.0
# Type and stand-in of optional columns.
OPTIONAL: dict[str, tuple[pa.DataType, Any]] = {
    "label_time": (pa.timestamp("us"), None),
    "category": (pa.string(), NO_TEXT),
    "channel": (pa.string(), NO_TEXT),
    "device": (pa.string(), NO_TEXT),
    "distance_km": (pa.float64(), NO_DISTANCE),
}
# Largest numbers; bounds of the curated schema, of training data and of requests.
LARGEST = {"amount": 1e6, "distance_km": 25_000.0}
TYPES = {**REQUIRED, **{name: kind for name, (kind, _) in OPTIONAL.items()}}


class ColumnError(ValueError):
    """A column cannot be read.

    Args:
        reason: What is wrong and what to do.
        row: Number of the first faulty row in the file, from 0; None if the fault is the column's.
    """

    def __init__(self, reason: str, row: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.row = reason, row


def parse_mapping(mapping: str) -> dict[str, str]:
    """Parse the setting ``columns``, ``OURS=YOURS`` pairs separated by commas.

    Raises:
        DataError: for another form, or a name that is not ours or given twice.
    """
    pairs = [pair.partition("=") for pair in mapping.split(",") if pair]
    unknown = [ours for ours, equals, _ in pairs if not equals or ours not in TYPES]
    if unknown:
        raise DataError(f"--columns takes OURS=YOURS pairs, and '{unknown[0]}' is none of {', '.join(TYPES)}.")
    if repeated := [name for name, count in Counter(ours for ours, _, _ in pairs).items() if count > 1]:
        raise DataError(f"--columns names '{repeated[0]}' twice; give each column once.")
    return {ours: theirs for ours, _, theirs in pairs}


def match_columns(names: Sequence[str], mapping: Mapping[str, str]) -> dict[str, str]:
    """Return a file's column name for each of ours that it has.

    Raises:
        DataError: for a missing required or mapped column, a name of ours that is spelled differently, or a searched name
            that occurs twice.
    """
    searched = {name: mapping.get(name, name) for name in TYPES}
    present = {ours: theirs for ours, theirs in searched.items() if theirs in names}
    missing = {
        ours: theirs
        for ours, theirs in searched.items()
        if theirs not in names and (ours in REQUIRED or ours in mapping or _find_spelling(theirs, names))
    }
    if missing:
        raise DataError(_describe_missing(missing, names, set(present.values())))
    if repeated := [name for name in present.values() if list(names).count(name) > 1]:
        raise DataError(f"it has two columns '{repeated[0]}'; rename or drop one of them.")
    return present


def escape(text: str) -> str:
    """Return a text of the data for a message: line breaks and other characters that do not print are escaped."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _describe_missing(missing: Mapping[str, str], names: Sequence[str], taken: Collection[str]) -> str:
    """Return the message about columns that a file lacks, by our name, with the nearest free names as suggestions."""
    listed = ", ".join(name or "(unnamed)" for name in names)
    if not any(name.strip().casefold() in TYPES for name in names) and (len(names) == 1 or any(map(_is_value, names))):
        return f"its first row, {listed}, is no header; write the names of the columns above the rows."
    free = [name for name in names if name not in taken]
    near = {
        ours: (_find_spelling(theirs, free) or get_close_matches(theirs, free, 1) or ["YOURS"])[0]
        for ours, theirs in missing.items()
    }
    pairs = ",".join(f"{ours}={theirs}" for ours, theirs in near.items())
    fault = f"it has no column{'s' * (len(missing) > 1)} {', '.join(map(repr, missing.values()))}, but {listed}"
    if "YOURS" in near.values():
        return f"{fault}; name yours with --columns {pairs}."
    return f'{fault}; did you mean --columns "{pairs}"?'


def _find_spelling(name: str, names: Sequence[str]) -> list[str]:
    """Return the names that differ only in blanks, case, or signs between words."""
    return [other for other in names if other != name and _simplify(other) == _simplify(name)]


def _simplify(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def _is_value(text: str) -> bool:
    return text[:1].isdigit() or text[:1] in "-+." and text[1:2].isdigit()
