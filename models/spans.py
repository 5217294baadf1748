"""Spans, the folders of raw data: finding them, parsing and selecting a window, and a digest of their content."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from models.errors import DataError

NAME = re.compile(r"span-(\d+)")


def find_spans(source: Path) -> dict[int, Path]:
    """Find the ``span-NNN`` folders of a source by number; a folder without any is itself span 0.

    Raises:
        DataError: if the source is not a folder, is empty, or has two folders for one number.
    """
    if not source.is_dir():
        raise DataError(
            f"There is no folder {source}; --data takes a folder of span-NNN folders or one folder of data."
        )
    numbered = [
        (int(match[1]), path) for path in source.iterdir() if (match := NAME.fullmatch(path.name)) and path.is_dir()
    ]
    spans = dict(numbered)
    if len(spans) < len(numbered):
        duplicate = next(number for number, path in numbered if spans[number] != path)
        raise DataError(f"{source} has two folders for span {duplicate}; keep one of them.")
    if not spans and not any(source.iterdir()):
        raise DataError(
            f"The folder {source} is empty; --data takes a folder of span-NNN folders or one folder of data."
        )
    return dict(sorted(spans.items())) or {0: source}


def select_window(source: Path, first: int, last: int) -> dict[int, Path]:
    """Select the spans from ``first`` to ``last``, both included; -1 is the source's own first or last span.

    Raises:
        DataError: if the window is empty or has gaps, naming the missing spans.
    """
    spans = find_spans(source)
    first, last = (min(spans) if first < 0 else first), (max(spans) if last < 0 else last)
    missing = [number for number in range(first, last + 1) if number not in spans]
    if missing or last < first:
        names = ", ".join(f"span-{number:03d}" for number in missing[:3])
        lack = f"lacks {names}" if names else "is empty"
        raise DataError(f"{source} has spans {min(spans)} to {max(spans)}, but the window {first}:{last} {lack}.")
    return {number: spans[number] for number in range(first, last + 1)}


def digest_spans(spans: Iterable[Path]) -> str:
    """Hash the names and contents of all files of the spans: the version of the data."""
    total = hashlib.sha256()
    for span in spans:
        for path in sorted(file for file in span.rglob("*") if file.is_file()):
            total.update(str(path.relative_to(span)).encode())
            with path.open("rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()[:16]


def parse_window(text: str) -> tuple[int, int]:
    """Return the first and last span of a text FIRST:LAST; -1 for a bound that is left out.

    Raises:
        ValueError: if the text has no colon or a bound is not a whole number.
    """
    first, colon, last = text.partition(":")
    if not colon or not all(part == "" or part.isdigit() for part in (first, last)):
        raise ValueError(f"--spans takes FIRST:LAST with whole numbers, such as 0:59, not '{text}'.")
    return int(first or -1), int(last or -1)
