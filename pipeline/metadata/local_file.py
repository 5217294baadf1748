"""The SQLite file of a home: its paths follow a home that was moved or copied, and a home without write permission is read.

TFX and the runs' records store absolute paths. The file therefore records the home that they were written for. If it is opened
elsewhere, the paths that exist in the new place are rewritten once.
"""

import json
import logging
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import quote

from serving import bucket
from serving.atomic_file import write_atomically

log = logging.getLogger(__name__)

HOME_TABLE = "ShowcaseHome"
PATHS = {
    "Artifact": ("uri",),
    "ArtifactProperty": ("string_value",),
    "ExecutionProperty": ("string_value",),
    "ContextProperty": ("string_value",),
}
MLFLOW_FILE = "mlflow.sqlite"
MLFLOW_PATHS = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "tags": ("value",),
    "datasets": ("dataset_source",),
}
# A stage's output, {home}/{case}/artifacts/{stage}/{output}/{execution}, of a store that has no record of its home.
OUTPUT = re.compile(r"(/.+)/[^/]+/artifacts/[^/]+/[^/]+/\d+")


def is_writable(file: Path) -> bool:
    """Whether this process may write to the file and to its folder, which SQLite needs for its journal."""
    return os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)


def record_home(file: Path) -> None:
    """Record the folder of a new store as the home of its paths; nothing in a bucket, whose store holds URIs."""
    if bucket.uri_of(file):
        return
    with closing(sqlite3.connect(file)) as connection, connection:
        _write_home(connection, file.parent)


def follow_home(file: Path) -> None:
    """Rewrite the paths of a store whose home was moved or copied; log one line if so.

    Paths outside the earlier home stay, as do paths of files that the new home lacks. A store without a record of its home
    is taken to belong to the home of its first artifact.

    Raises:
        sqlite3.Error: if the file is not a database.
    """
    with closing(sqlite3.connect(file)) as connection, connection:
        old = _read_home(connection)
        if old is None or old == file.parent or bucket.uri_of(file):
            return
        _rewrite_store(connection, old, file.parent)
        _write_home(connection, file.parent)
    _rewrite_files(old, file.parent)
    log.warning("This home was at %s before; the paths that it stores now name %s.", old, file.parent)


@contextmanager
def copy_store(file: Path) -> Iterator[Path]:
    """Yield a temporary copy of the store of a home that cannot be written to, with the paths of the home's present place.

    Raises:
        sqlite3.Error: if the file is not a database.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, file.name)
        with (
            closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
            old = _read_home(target)
            if old is not None and old != file.parent:
                with target:
                    _rewrite_store(target, old, file.parent)
        yield copy


def _read_home(connection: sqlite3.Connection) -> Path | None:
    """Return the home that the paths were written for; None if the store has none yet."""
    with suppress(sqlite3.OperationalError):
        return Path(connection.execute(f"SELECT path FROM {HOME_TABLE}").fetchone()[0])
    with suppress(sqlite3.OperationalError):
        for (uri,) in connection.execute(
            "SELECT uri FROM Artifact WHERE uri LIKE '%/artifacts/%' ORDER BY id LIMIT 20"
        ):
            if match := OUTPUT.fullmatch(uri):
                return Path(match[1])
    return None


def _write_home(connection: sqlite3.Connection, home: Path) -> None:
    connection.execute(f"CREATE TABLE IF NOT EXISTS {HOME_TABLE} (path TEXT NOT NULL)")
    connection.execute(f"DELETE FROM {HOME_TABLE}")
    connection.execute(f"INSERT INTO {HOME_TABLE} VALUES (?)", (str(home),))


def _rewrite_store(connection: sqlite3.Connection, old: Path, new: Path) -> None:
    connection.create_function("follow", 1, partial(_follow, str(old), str(new)), deterministic=True)
    for table, columns in PATHS.items():
        for column in columns:
            query = f"UPDATE {table} SET {column} = follow({column}) WHERE instr({column}, ?) > 0"
            connection.execute(query, (f"{old}/",))


def _follow(old: str, new: str, text: str) -> str:
    """Return a text whose paths below the old home are below the new one, if a file is there."""
    if text.startswith(f"{old}/") and Path(new + text.removeprefix(old)).exists():
        return new + text.removeprefix(old)

    def replace(match: re.Match[str]) -> str:
        return new + match[1] if Path(new + match[1]).exists() else match[0]

    return re.sub(re.escape(old) + r"(/[^\s\"',;]*[^\s\"',;.])", replace, text)


def _rewrite_files(old: Path, new: Path) -> None:
    """Rewrite the paths in the experiment tracker's file, in decisions and pushed versions, and in links to collected spans.

    Files that the home only links to belong to another home and stay as they are.
    """
    if _is_inside(new / MLFLOW_FILE, new):
        _rewrite_tracker(new / MLFLOW_FILE, old, new)
    before, after = (json.dumps(f"{path}/")[1:-1] for path in (old, new))
    for pattern in ("*/artifacts/*/decision/*/decision.json", "*/versions/*/assets.extra/origin.json"):
        for path in (path for path in new.glob(pattern) if _is_inside(path, new)):
            write_atomically(path, path.read_text().replace(before, after).encode())
    for link in new.glob("*/collected/*/span-*"):
        if (
            _is_inside(link.parent, new)
            and link.is_symlink()
            and (target := str(link.readlink())).startswith(f"{old}/")
        ):
            link.unlink()
            link.symlink_to(new / target.removeprefix(f"{old}/"), target_is_directory=True)


def _is_inside(path: Path, home: Path) -> bool:
    return path.exists() and path.resolve().is_relative_to(home)


def _rewrite_tracker(file: Path, old: Path, new: Path) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        for table, columns in MLFLOW_PATHS.items():
            for column in columns:
                for before, after in {str(old): str(new), quote(str(old)): quote(str(new))}.items():
                    values = f"{before}/", f"{after}/"
                    connection.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", values)
