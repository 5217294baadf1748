"""Versions in a model's folder and their states."""

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

from serving import bucket, bucket_folders

GRAPHS = ("saved_model.pb",)
log = logging.getLogger(__name__)
STATES = {"START": 10, "LOADING": 20, "AVAILABLE": 30, "UNLOADING": 40, "END": 50}


@dataclass
class VersionState:
    """State of a version.

    Attributes:
        version: Version number.
        state: A name in ``STATES``.
        code: Name of the gRPC status; ``OK`` unless loading failed.
        message: Reason of the failure, if any.
    """

    version: int
    state: str
    code: str = "OK"
    message: str = ""


def find_complete_versions(base: Path, settle: float) -> dict[int, Path]:
    """Return the folders of complete versions by number.

    A version is complete if it contains a model and no file in it has changed for ``settle`` seconds. A running copy changes
    files all the time, so a partly written version is never read. In a bucket, a version is complete once its manifest is
    there; while the bucket does not answer, the versions that were downloaded before count.
    """
    if bucket.uri_of(base):
        try:
            return {int(name): base / name for name in bucket_folders.list_folders(base) if name.isdecimal()}
        except bucket.BucketError as error:
            log.warning("only versions downloaded before are available: %s", error)
            settle = 0.0
    folders = {}
    try:
        names = [entry.name for entry in os.scandir(base) if entry.name.isdecimal()]
    except FileNotFoundError:
        return {}
    for name in names:
        path = base / name
        changed_at = get_last_change(path)
        if changed_at is not None and not (settle and time.time() - settle < changed_at <= time.time()):
            folders[int(name)] = path
    return folders


def download(path: Path) -> None:
    """Download a version from a bucket; nothing for a local folder, or while the bucket does not answer and a copy is there.

    Raises:
        BucketError: if it cannot be downloaded.
    """
    try:
        bucket_folders.pull(path, last=GRAPHS[0])
    except bucket.BucketError as error:
        if get_last_change(path) is None:
            raise
        log.warning("the version downloaded before is loaded: %s", error)


def get_last_change(path: Path) -> float | None:
    """Return when a file in a version's folder last changed (ctime); None if the folder contains no model."""
    try:
        if not any((path / name).is_file() for name in GRAPHS):
            return None
        return max(os.stat(os.path.join(folder, name)).st_ctime for folder, _, files in os.walk(path) for name in files)
    except OSError:
        return None
