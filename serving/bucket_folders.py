"""Folders of a bucket: uploaded and downloaded whole.

A folder is uploaded with a manifest, the sizes and checksums of its files, as its last object, next to it. It is in the bucket
if its manifest is, so nobody reads a folder whose upload was interrupted, and nobody depends on a listing being complete.
"""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import google_crc32c

from serving import bucket

MANIFEST = ".manifest"
THREADS = 8
CHUNK = 8 << 20

Checksums = dict[str, list[int]]


def push(path: Path, last: str = "") -> None:
    """Upload a folder: the files that the bucket lacks or has with other content, then its manifest.

    Args:
        path: The folder.
        last: Name of a file that is uploaded after all others, for readers that know no manifest.

    Raises:
        BucketError: if the bucket does not take them; the manifest of an earlier upload stays.
    """
    if not bucket.uri_of(path) or not path.is_dir():
        return
    old, new = _read_manifest(path) or {}, {name: _checksum(path / name) for name in _walk(path)}
    changed = [name for name, checksum in new.items() if old.get(name) != checksum]
    _transfer_files(bucket.push_file, path, changed, last)
    if changed or old.keys() != new.keys() or not old:
        bucket.write_file(_manifest(path), json.dumps(new).encode())


def pull(path: Path, last: str = "") -> bool:
    """Download the files of a folder that the working copy lacks or has with other content; others in it stay.

    Args:
        path: The folder.
        last: Name of a file that is downloaded after all others, so that it marks a complete copy.

    Returns:
        False if the bucket has no such folder, or has it incomplete.

    Raises:
        BucketError: if the bucket does not answer, or an object is not what the manifest says.
    """
    manifest = _read_manifest(path) if bucket.uri_of(path) else None
    if manifest is None:
        return False
    path.mkdir(parents=True, exist_ok=True)
    missing = [name for name, checksum in manifest.items() if not _has(path / name, checksum)]
    _transfer_files(partial(_download, checksums=manifest, folder=path), path, missing, last)
    return True


def pull_listed(path: Path) -> None:
    """Download a folder that other programs have written, and so without a manifest; what has size and time of ours stays.

    Raises:
        BucketError: if the bucket does not answer.
    """

    def download(item: tuple[Path, tuple[int, float]]) -> None:
        file, (size, changed) = item
        if not file.is_file() or (file.stat().st_size, file.stat().st_mtime) != (size, changed):
            bucket.replace_file(file, bucket.read_file(file) or b"")
            os.utime(file, (changed, changed))

    _transfer(download, list(bucket.list_objects(path).items()))


def delete(path: Path) -> None:
    """Delete a folder from the bucket, its manifest first.

    Raises:
        BucketError: if the bucket refuses.
    """
    bucket.delete(_manifest(path))
    bucket.delete(path)


def list_folders(path: Path) -> list[str]:
    """Return the names of the complete folders in a folder of the bucket, sorted."""
    return [name.removesuffix(MANIFEST) for name in bucket.list_names(path) if name.endswith(MANIFEST)]


def _manifest(path: Path) -> Path:
    return path.with_name(path.name + MANIFEST)


def _walk(path: Path) -> Iterator[str]:
    """Yield the files below a folder, also those below linked folders, as paths in it."""
    for folder, _, names in os.walk(path, followlinks=True):
        for name in names:
            yield str(Path(folder, name).relative_to(path))


def _checksum(path: Path) -> list[int]:
    checksum = 0
    with path.open("rb") as stream:
        while content := stream.read(CHUNK):
            checksum = google_crc32c.extend(checksum, content)
    return [path.stat().st_size, checksum]


def _has(path: Path, checksum: list[int]) -> bool:
    return path.is_file() and path.stat().st_size == checksum[0] and _checksum(path) == checksum


def _read_manifest(path: Path) -> Checksums | None:
    content = bucket.read_file(_manifest(path))
    return None if content is None else json.loads(content)


def _transfer(function: Callable[[Any], None], items: list[Any]) -> None:
    """Call the function with each item, several at a time."""
    with ThreadPoolExecutor(THREADS) as threads:
        for _ in threads.map(function, items):
            pass


def _transfer_files(function: Callable[[Path], None], folder: Path, names: list[str], last: str) -> None:
    _transfer(function, [folder / name for name in names if name != last])
    _transfer(function, [folder / name for name in names if name == last])


def _download(path: Path, checksums: Checksums, folder: Path) -> None:
    content = bucket.read_file(path)
    expected = checksums[str(path.relative_to(folder))]
    if content is None or [len(content), google_crc32c.value(content)] != expected:
        raise bucket.BucketError(
            f"{bucket.uri_of(path)} is not the object that its manifest names; upload the folder again."
        )
    bucket.replace_file(path, content)
