"""Files of purchases in the folder of a span: which are read, and which are skipped for which reason."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from models import spans

SUFFIX = re.compile(
    r"\.(?:(?P<text>csv|tsv)(?:\.(?P<compression>gz|zst|bz2))?|(?P<parquet>parquet|pq))$", re.IGNORECASE
)
CODECS = {"gz": "gzip", "zst": "zstd", "bz2": "bz2"}
NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class TableFile:
    """A file of purchases.

    Attributes:
        path: Where it lies.
        is_text: Whether it is a text table, not Parquet.
        separator: Column separator that its name promises; empty for Parquet.
        codec: Compression of the whole file; empty for none.
        partition: Columns and values that the names of its folders give, as in ``day=2026-01-01``.
    """

    path: Path
    is_text: bool = False
    separator: str = ""
    codec: str = ""
    partition: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def stem(self) -> Path:
        """The path without format and compression: equal for the same table in two formats."""
        return self.path.with_name(SUFFIX.sub("", self.path.name))

    def name_row(self, row: int) -> str:
        """Name a row as a person counts it; ``row`` counts from 0."""
        return f"row {row + 1}" + (" below the header" if self.is_text else "")


@dataclass(frozen=True)
class Listing:
    """Files of a span: those to read in the order of their paths, and the paths of the others by reason."""

    files: list[TableFile]
    skipped: dict[str, list[Path]]


def list_tables(folder: Path) -> Listing:
    """List the files of a span's folder and of the folders in it."""
    visible, hidden = spans.list_files(folder)
    skipped: dict[str, list[Path]] = {"hidden": hidden} if hidden else {}
    files = []
    for path in visible:
        if match := SUFFIX.search(path.name):
            files.append(_describe_file(path, match, folder))
        else:
            skipped.setdefault(_name_reason(path), []).append(path)
    return Listing(files, skipped)


def find_double_formats(files: list[TableFile]) -> dict[Path, str]:
    """Return a message for each file whose table is in its folder in another format before it."""
    first: dict[Path, TableFile] = {}
    return {
        file.path: f"{first[file.stem].path} and {file.path.name} have the same name in two formats; "
        "keep one of them, or rename it if it holds other purchases."
        for file in files
        if first.setdefault(file.stem, file) is not file
    }


def _describe_file(path: Path, match: re.Match[str], folder: Path) -> TableFile:
    text = (match["text"] or "").lower()
    folders = path.relative_to(folder).parts[:-1]
    pairs = [part.split("=", 1) for part in folders if "=" in part[1:]]
    return TableFile(
        path=path,
        is_text=bool(text),
        separator={"csv": ",", "tsv": "\t"}.get(text, ""),
        codec=CODECS.get((match["compression"] or "").lower(), ""),
        partition={name: None if value == NULL_PARTITION else unquote(value) for name, value in pairs},
    )


def _name_reason(path: Path) -> str:
    return f"{''.join(path.suffixes[-2:]).lower()} not supported" if path.suffix else "without suffix"
