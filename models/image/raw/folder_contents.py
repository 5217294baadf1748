"""Contents of folders: what is read, what never is and why, and which files are images."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from models.image.raw.conversion import PNG_HEAD
from models.spans import NAME

SYSTEM_FOLDERS = {
    "@eadir",
    "__macosx",
    ".ipynb_checkpoints",
    "$recycle.bin",
    "system volume information",
    "__pycache__",
}
SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", ".ds_store", "icon\r"}
# A file with such a suffix or such first bytes is an image, and refused if it cannot be read.
SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".avif"}
    | {".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".pnm"}
    | {".heic", ".heif", ".jxl", ".svg", ".psd", ".ico", ".tga", ".exr", ".dng", ".cr2", ".nef", ".arw"}
)
MAGIC = (PNG_HEAD, b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ")
HEAD_BYTES = 32


class Contents(NamedTuple):
    """Folders and files in order of their names, and for what is never read the reason."""

    folders: list[Path]
    files: list[Path]
    ignored: dict[Path, str]


def scan_folder(folder: Path) -> Contents:
    """List what is directly in a folder; links are followed."""
    contents = Contents([], [], {})
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = folder / entry.name
            if reason := _ignored_reason(entry, path):
                contents.ignored[path] = reason
            else:
                (contents.folders if entry.is_dir() else contents.files).append(path)
    return contents


def _ignored_reason(entry: os.DirEntry[str], path: Path) -> str:
    name = entry.name.lower()
    if name in (SYSTEM_FOLDERS if entry.is_dir() else SYSTEM_FILES):
        return "system"
    if name.startswith("."):
        return "hidden"
    if not (entry.is_dir() or entry.is_file()):
        return "no regular file"
    return "link to a folder above it" if entry.is_dir() and _is_loop(path) else ""


def list_other_files(folder: Path, used: Collection[Path], span: Path) -> dict[str, list[str]]:
    """Return the paths of all files of a folder that are not ``used``, by the reason why they are not read."""
    skipped: dict[str, list[str]] = {}
    contents = scan_folder(folder)
    reasons = [*contents.ignored.items(), *((path, "") for path in (*contents.files, *contents.folders))]
    for path, reason in reasons:
        if not reason and path.is_dir():
            for inner_reason, paths in list_other_files(path, used, span).items():
                skipped.setdefault(inner_reason, []).extend(paths)
            continue
        for file in walk_files(path):
            if file not in used:
                skipped.setdefault(reason or describe_suffix(file), []).append(relative_name(file, span))
    return skipped


def walk_files(path: Path) -> Iterator[Path]:
    """Yield all files in a folder, or the file itself; links are not followed."""
    if path.is_dir() and not path.is_symlink():
        for child in sorted(path.iterdir()):
            yield from walk_files(child)
    else:
        yield path


def relative_name(path: Path, span: Path) -> str:
    """Return a path relative to the data, with bytes that are not UTF-8 escaped."""
    base = span.parent if NAME.fullmatch(span.name) else span
    return escape_name(path.relative_to(base))


def escape_name(path: Path) -> str:
    """Return a path as text in which bytes that are not UTF-8 are escaped, so that it can be printed and stored."""
    return path.as_posix().encode("utf-8", "backslashreplace").decode()


def _is_loop(folder: Path) -> bool:
    """Whether a folder is a link to a folder that it lies in, so that following it would not end."""
    if not folder.is_symlink():
        return False
    target = folder.resolve()
    return any(parent.resolve() == target for parent in folder.parents)


def is_image(path: Path) -> bool:
    """Whether a file claims to be an image, by its suffix or its first bytes."""
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return False
    riff, box = head[:4] == b"RIFF" and head[8:12] == b"WEBP", head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis")
    bitmap = head[:2] == b"BM" and head[6:10] == b"\0\0\0\0"
    return head.startswith(MAGIC) or riff or box or bitmap


def describe_suffix(path: Path) -> str:
    """Reason for skipping a file that is no image."""
    return f"{escape_name(Path(path.suffix.lower()))} not read" if path.suffix else "without a suffix not read"
