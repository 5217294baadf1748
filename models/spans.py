"""Raw data lies in spans, a folder each: how they are found, picked and known by their content."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from models.errors import DataError

NAME = re.compile(r"span-(\d+)")


def find(source: Path) -> dict[int, Path]:
    """The ``span-NNN`` folders of a source by number, or the folder itself as span 0 if it has none.

    Raises:
        DataError: if the source is no folder, is empty or has two folders for one number.
    """
    if not source.is_dir():
        raise DataError(
            f"There is no folder {source}; --data takes a folder of span-NNN folders or one folder of data."
        )
    numbered = [(int(m[1]), p) for p in source.iterdir() if (m := NAME.fullmatch(p.name)) and p.is_dir()]
    found = dict(numbered)
    if len(found) < len(numbered):
        twice = next(number for number, path in numbered if found[number] != path)
        raise DataError(f"{source} has two folders for span {twice}; keep one of them.")
    if not found and not any(source.iterdir()):
        raise DataError(
            f"The folder {source} is empty; --data takes a folder of span-NNN folders or one folder of data."
        )
    return dict(sorted(found.items())) or {0: source}


def window(source: Path, first: int, last: int) -> dict[int, Path]:
    """The spans from ``first`` to ``last``, both included; -1 stands for the source's own first or last.

    Raises:
        DataError: if the window is empty or has a hole, naming the missing spans.
    """
    spans = find(source)
    first, last = (min(spans) if first < 0 else first), (max(spans) if last < 0 else last)
    missing = [number for number in range(first, last + 1) if number not in spans]
    if missing or last < first:
        names = ", ".join(f"span-{number:03d}" for number in missing[:3])
        lack = f"lacks {names}" if names else "is empty"
        raise DataError(f"{source} has spans {min(spans)} to {max(spans)}, but the window {first}:{last} {lack}.")
    return {number: spans[number] for number in range(first, last + 1)}


def digest(spans: Iterable[Path]) -> str:
    """A content hash over the files of the spans, names included: the version of the data."""
    total = hashlib.sha256()
    for span in spans:
        for path in sorted(p for p in span.rglob("*") if p.is_file()):
            total.update(str(path.relative_to(span)).encode())
            with path.open("rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()[:16]
