"""The SQLite file of a home in a bucket: local while it is used, and uploaded at the end of a run."""

from pathlib import Path

import google_crc32c

from pipeline.metadata import store
from pipeline.metadata.store_address import SQLITE_FILE
from serving import bucket

RECORD = ".uploaded"  # suffix of the file with the checksum of the last copy


class MetadataConflictError(OSError):
    """The SQLite file of this machine and its copy in the bucket have both changed."""


def download_store(home: Path) -> None:
    """Take over the bucket's copy if this machine has not written since it was last the same.

    Raises:
        MetadataConflictError: if both have changed.
        BucketError: if the bucket does not answer.
    """
    file = home / SQLITE_FILE
    content = bucket.read_file(file)
    if content is None:
        return
    with store.write_lock(file):
        ours, last = _checksum_file(file), _read_record(file)
        theirs = google_crc32c.value(content)
        if theirs in (ours, last):
            return
        if ours not in (None, last):
            raise _conflict(file)
        file.write_bytes(content)
        _write_record(file, theirs)


def upload_store(home: Path) -> None:
    """Copy the SQLite file to the bucket; nothing for a home that is a folder or has a metadata server.

    Raises:
        MetadataConflictError: if another machine has uploaded its file meanwhile.
        BucketError: if the bucket does not take it.
    """
    file = home / SQLITE_FILE
    if not bucket.uri_of(file) or not file.is_file():
        return
    with store.write_lock(file):
        ours, content = _checksum_file(file), bucket.read_file(file)
        if content is not None and google_crc32c.value(content) not in (ours, _read_record(file)):
            raise _conflict(file)
        bucket.push_file(file)
        _write_record(file, ours)


def _conflict(file: Path) -> MetadataConflictError:
    return MetadataConflictError(
        f"Another machine has changed {bucket.uri_of(file)} since this one did, so its runs are not in {file}. Move one "
        "of the two away; several machines need a metadata server (python -m pipeline.metadata.store_server)."
    )


def _checksum_file(file: Path) -> int | None:
    return google_crc32c.value(file.read_bytes()) if file.is_file() else None


def _read_record(file: Path) -> int | None:
    record = file.with_name(file.name + RECORD)
    return int(record.read_text()) if record.is_file() else None


def _write_record(file: Path, checksum: int | None) -> None:
    file.with_name(file.name + RECORD).write_text(str(checksum))
