"""List the image files of a folder of classes, and account for every other file in it.

The classes are the subfolders of the root, or of its official parts such as ``train`` and ``test``. The root is the folder
itself or, for a folder that holds nothing but one folder of folders, that folder.
"""

import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from models.image.raw.folder_contents import Contents, is_image, relative_name, scan_folder, walk_files

PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "dev"), "valid"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
# The part of train rows if the source has a valid part, too, so that none of them is drawn for valid.
ONLY_TRAIN = "only train"
USES = {
    "": "train, valid and eval by valid_share and eval_share",
    "train": "train, and valid by valid_share",
    ONLY_TRAIN: "train",
    "valid": "valid",
    "test": "eval",
}
OUTSIDE = "outside the class folders"


class ImageFile(NamedTuple):
    """A file of a class.

    Attributes:
        path: Path of the file.
        key: Its path relative to the root of the classes; stable across reads.
        label: The class, in Unicode's composed form (NFC).
        part: 'train', 'only train', 'valid', 'test' or ''; see :func:`resolve_parts`.
        folder: The class folder that it lies in.
    """

    path: Path
    key: str
    label: str
    part: str
    folder: Path


@dataclass
class FolderListing:
    """Contents of a folder.

    Attributes:
        root: The folder whose subfolders are the classes or parts.
        files: The files of all classes, in order of their paths.
        skipped: Paths, relative to the folder, of the files that are not read, by reason.
        refused: Paths of files that stop the run, by message.
        folders: Paths of the class folders.
        uses: For each folder that is an official part, what its rows are used as.
    """

    root: Path
    files: list[ImageFile] = field(default_factory=list)
    skipped: dict[str, list[str]] = field(default_factory=dict)
    refused: dict[str, list[str]] = field(default_factory=dict)
    folders: list[Path] = field(default_factory=list)
    uses: dict[str, str] = field(default_factory=dict)


def list_images(span: Path) -> FolderListing:
    """List the files of all classes of a span.

    Raises:
        OSError: for a folder that cannot be read.
    """
    return _Walk(span).run()


def find_root(span: Path) -> Path:
    """Return the folder that holds the data: the span, or the one folder of folders or of arrays in it."""
    root = span
    while True:
        contents = scan_folder(root)
        if len(contents.folders) != 1 or any(map(_is_array_file, contents.files)):
            return root
        inner = scan_folder(contents.folders[0])
        if any(map(is_image, inner.files)) or not (inner.folders or any(map(_is_array_file, inner.files))):
            return root
        root = contents.folders[0]


def resolve_parts(present: set[str]) -> dict[str, str]:
    """Map the official parts of a source to the parts of its rows, which decide their split.

    With a test part, valid is used as valid, and train for nothing but training. Without a test part, valid is the part
    that is held out, so it is used for the evaluation, and valid is drawn from train. A source with train alone has no
    official split.
    """
    if {"valid", "test"} <= present:
        return {"train": ONLY_TRAIN, "valid": "valid", "test": "test"}
    if present & {"valid", "test"}:
        return {"train": "train", "valid": "test", "test": "test"}
    return {"train": ""}


def find_label(folder: Path) -> str:
    """Return the class of a class folder: its name in Unicode's composed form (NFC)."""
    return unicodedata.normalize("NFC", folder.name)


def is_nested(file: ImageFile) -> bool:
    """Whether a file lies in a subfolder of its class folder that is no part."""
    parent = file.path.parent
    return parent != file.folder and not (parent.parent == file.folder and _name(parent) in PARTS)


class _Walk:
    """Lists a span's files; every file that it passes is put in the listing or skipped."""

    def __init__(self, span: Path):
        self._span, self._listing, self._parts = span, FolderListing(find_root(span)), dict[str, str]()

    def run(self) -> FolderListing:
        root = self._listing.root
        for folder in (path for path in root.parents if path == self._span or self._span in path.parents):
            self._enter(folder)
        folders = self._enter(root)
        parts = {
            folder: PARTS[_name(folder)] for folder in folders if _name(folder) in PARTS and scan_folder(folder).folders
        }
        if parts:
            self._list_parts(folders, parts)
        else:
            for folder in folders:
                self._list_class(folder, "")
        resolved = resolve_parts({file.part for file in self._listing.files} - {""})
        self._listing.files = [file._replace(part=resolved.get(file.part, file.part)) for file in self._listing.files]
        self._listing.uses = {name: USES[resolved.get(part, part)] for name, part in self._parts.items()}
        return self._listing

    def _list_parts(self, folders: list[Path], parts: dict[Path, str]) -> None:
        names = ", ".join(folder.name for folder in parts)
        for folder in folders:
            if folder in parts:
                self._parts[folder.name] = parts[folder]
                for class_folder in self._enter(folder):
                    self._list_class(class_folder, parts[folder])
            elif _name(folder) in PARTS:
                self._account(folder, self._listing.skipped, "in a part without class folders")
            elif any(map(is_image, scan_folder(folder).files)):
                message = f"this folder of images lies beside the parts {names}; move it into a part or remove it."
                self._account(folder, self._listing.refused, message)
            else:
                self._account(folder, self._listing.skipped, f"beside the parts {names}")

    def _list_class(self, folder: Path, part: str) -> None:
        self._listing.folders.append(folder)
        self._list_folder(folder, folder, part)

    def _list_folder(self, folder: Path, class_folder: Path, part: str) -> None:
        """List a class folder and its subfolders, of which the parts of a class may be the first ones."""
        contents = self._skip_ignored(folder)
        label, prefix = find_label(class_folder), folder.relative_to(self._listing.root).as_posix()
        self._listing.files += [
            ImageFile(path, f"{prefix}/{path.name}", label, part, class_folder) for path in contents.files
        ]
        for child in contents.folders:
            inner_part = part or (PARTS.get(_name(child), "") if folder == class_folder else "")
            if inner_part and not part:
                self._parts[child.name] = inner_part
            self._list_folder(child, class_folder, inner_part)

    def _enter(self, folder: Path) -> list[Path]:
        """Skip the files of a folder that is no class, and return its subfolders."""
        contents = self._skip_ignored(folder)
        for path in contents.files:
            self._account(path, self._listing.skipped, OUTSIDE)
        return contents.folders

    def _skip_ignored(self, folder: Path) -> Contents:
        contents = scan_folder(folder)
        for path, reason in contents.ignored.items():
            self._account(path, self._listing.skipped, reason)
        return contents

    def _account(self, path: Path, paths_by_reason: dict[str, list[str]], reason: str) -> None:
        """Add a file, or all files in a folder."""
        files = [relative_name(file, self._span) for file in walk_files(path)]
        if files:
            paths_by_reason.setdefault(reason, []).extend(files)


def _name(folder: Path) -> str:
    return folder.name.lower()


def _is_array_file(path: Path) -> bool:
    return path.suffix == ".npz" or "-ubyte" in path.name
