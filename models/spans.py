"""Spans, the folders of raw data: finding them, parsing and selecting a window, and a digest of their content."""

import hashlib
import os
import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from models.errors import DataError

NAME = re.compile(r"span-(\d+)")
WINDOW = re.compile(r"(\d{0,9}):(\d{0,9})", re.ASCII)
PICTURES = r"png|jpe?g|webp|bmp|gif|tiff?|avif|jp2|p[bgnp]m"
PICTURE = re.compile(rf"\.({PICTURES})$", re.IGNORECASE)
# Files that may hold rows or pictures; outside the spans of a source they would be lost.
DATA = re.compile(rf"\.(csv|tsv|parquet|pq|{PICTURES}|np[yz])(\.(gz|zst|bz2))?$|-ubyte(\.gz)?$", re.IGNORECASE)


def find_spans(source: Path) -> dict[int, Path]:
    """Find the ``span-NNN`` folders of a source by number; a folder without any is itself span 0.

    Raises:
        DataError: if the source is not a folder, is empty, has two folders for one number, or data outside its spans.
    """
    if source.is_file():
        raise DataError(f"{source} is a file; --data takes a folder, here {source.parent} or one with only this file.")
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
    if not spans and not any(list_files(source)):
        raise DataError(
            f"The folder {source} is empty; --data takes a folder of span-NNN folders or one folder of data."
        )
    if loose := [path for path in list_loose_files(source) if DATA.search(path.name)] if spans else []:
        raise DataError(
            f"{source} has span-NNN folders and {len(loose)} data file{'s' * (len(loose) > 1)} outside them, "
            f"such as {loose[0].relative_to(source)}; move the data into a span or away."
        )
    return dict(sorted(spans.items())) or {0: source}


def select_window(source: Path, first: int, last: int) -> dict[int, Path]:
    """Select the spans from ``first`` to ``last``, both included; -1 is the source's own first or last span.

    Raises:
        DataError: if the window is empty or has gaps, naming the missing spans.
    """
    spans = find_spans(source)
    first, last = (min(spans) if first < 0 else first), (max(spans) if last < 0 else last)
    # The first few are enough: the window may have a billion spans.
    missing = list(islice((number for number in range(first, last + 1) if number not in spans), 3))
    if missing or last < first:
        names = ", ".join(f"span-{number:03d}" for number in missing)
        lack = f"lacks {names}" if names else "is empty"
        raise DataError(f"{source} has spans {min(spans)} to {max(spans)}, but the window {first}:{last} {lack}.")
    return {number: spans[number] for number in range(first, last + 1)}


def list_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """List the files of a folder and of the folders in it, also behind links, sorted by path.

    A file is hidden if its name, or that of a folder between ``folder`` and it, begins with a dot or an underscore:
    markers and checksums of writers, checkpoints of notebooks, temporary folders.

    Returns:
        The visible files and the hidden files.
    """
    files: tuple[list[Path], list[Path]] = ([], [])
    visited = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(parent)) in visited:
            folders.clear()  # a link to a folder that is listed already
            continue
        visited.add(real)
        for path in (Path(parent, name) for name in names):
            is_hidden = any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
            files[is_hidden].append(path)
    return sorted(files[0]), sorted(files[1])


def list_loose_files(source: Path) -> list[Path]:
    """List the visible files of a source that are in none of its span-NNN folders; none for a source without spans."""
    entries = [path for path in sorted(source.iterdir()) if not path.name.startswith((".", "_"))]
    others = [path for path in entries if not (path.is_dir() and NAME.fullmatch(path.name))]
    if len(others) == len(entries):
        return []
    return [file for path in others for file in (list_files(path)[0] if path.is_dir() else [path])]


def digest_spans(spans: Iterable[Path]) -> str:
    """Hash the names and contents of the visible files of the spans: the version of the data.

    Files that are skipped for their format count too, as they may be read by a later release. Of the hidden files only
    pictures count, as cameras write names such as _DSC0001.JPG, and a class may be called _unknown.
    """
    total = hashlib.sha256()
    for span in spans:
        visible, hidden = list_files(span)
        files = sorted([*visible, *(path for path in hidden if _is_underscored_picture(path.relative_to(span)))])
        for path in (file for file in files if file.is_file()):
            total.update(os.fsencode(path.relative_to(span)))
            with path.open("rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()[:16]


def _is_underscored_picture(path: Path) -> bool:
    return bool(PICTURE.search(path.name)) and not any(part.startswith(".") for part in path.parts)


def parse_window(text: str) -> tuple[int, int]:
    """Return the first and last span of a text FIRST:LAST; -1 for a bound that is left out.

    Raises:
        ValueError: if the text has no colon, a bound is not a whole number, or the last span lies before the first.
    """
    bounds = WINDOW.fullmatch(text)
    if not bounds:
        raise ValueError(f"--spans takes FIRST:LAST with whole numbers, such as 0:59, not '{text[:60]}'.")
    first, last = (int(bound or -1) for bound in bounds.groups())
    if 0 <= last < first:
        raise ValueError(f"--spans {text} ends before it begins; give the smaller number first, as in {last}:{first}.")
    return first, last
