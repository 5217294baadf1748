"""Inspect a span before a run: decode every image once, and account for every file."""

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from models.errors import DataError
from models.image.raw import arrays, class_folders, folder_contents, readers
from models.image.raw.arrays import Group
from models.image.raw.class_folders import ImageFile
from models.image.raw.conversion import decode

# Files of one task of the thread pool, as a small file takes less time than a task.
CHUNK = 64


class InspectedImage(NamedTuple):
    """Facts about an image that is used.

    Attributes:
        key: Key of its row.
        label: Its class.
        part: As in :data:`models.image.raw.readers.COLUMNS`.
        digest: Hash of the file's bytes or, for arrays, of the pixels.
        size: Height and width in pixels.
        grey: Whether it has grey values only.
    """

    key: str
    label: str
    part: str
    digest: bytes
    size: tuple[int, int]
    grey: bool


@dataclass
class SpanInspection:
    """Account of a span.

    Attributes:
        images: The images that are used.
        files: Number of files that they are in.
        classes: Classes that have images or that an archive declares.
        folders: Number of files, and of images among them, by class folder.
        skipped: Paths of files that are not read, by reason.
        refused: Paths of files that stop the run, by message.
        converted: Number of files by conversion.
        uses: For each official part, what its rows are used as.
        spellings: Names of the folders of each class.
        mistaken: Paths of files whose suffix names another format than their content has.
        nested: Subfolders of class folders that hold images, which have the class of the upper folder.
    """

    images: list[InspectedImage] = field(default_factory=list)
    files: int = 0
    classes: set[str] = field(default_factory=set)
    folders: dict[str, tuple[int, int]] = field(default_factory=dict)
    skipped: dict[str, list[str]] = field(default_factory=dict)
    refused: dict[str, list[str]] = field(default_factory=dict)
    converted: Counter[str] = field(default_factory=Counter)
    uses: dict[str, str] = field(default_factory=dict)
    spellings: dict[str, set[str]] = field(default_factory=dict)
    mistaken: list[str] = field(default_factory=list)
    nested: set[str] = field(default_factory=set)


class _Outcome(NamedTuple):
    """What becomes of a file: an image, or the reason why it is skipped or refused."""

    image: InspectedImage | None = None
    changes: tuple[str, ...] = ()
    mistaken: bool = False
    reason: str = ""
    refused: bool = False


def inspect_span(span: Path) -> SpanInspection:
    """Inspect all files of a span; damaged ones are in ``refused``.

    Raises:
        DataError: if the span cannot be read or has no images in a layout that is read.
    """
    try:
        root = class_folders.find_root(span)
        return _inspect_arrays(span, root) if arrays.has_arrays(root) else _inspect_folders(span)
    except OSError as error:
        raise DataError(f"{span} cannot be read ({error}); make it readable.") from error


def _inspect_folders(span: Path) -> SpanInspection:
    listing = class_folders.list_images(span)
    result = SpanInspection(skipped=listing.skipped, refused=listing.refused, uses=listing.uses)
    files, images = Counter[Path](), Counter[Path]()
    for file, outcome in zip(listing.files, _inspect_files(listing.files), strict=True):
        files[file.folder] += 1
        images[file.folder] += bool(outcome.image or outcome.refused)
        name = folder_contents.relative_name(file.path, span)
        if outcome.image:
            result.images.append(outcome.image)
            result.converted.update(outcome.changes)
            result.mistaken += [name] if outcome.mistaken else []
            if class_folders.is_nested(file):
                result.nested.add(folder_contents.relative_name(file.path.parent, span))
        else:
            (result.refused if outcome.refused else result.skipped).setdefault(outcome.reason, []).append(name)
    if not images.total():
        raise readers.create_missing_error(span)
    result.files = len(result.images)
    result.classes = {image.label for image in result.images}
    for folder in listing.folders:
        result.spellings.setdefault(class_folders.find_label(folder), set()).add(folder.name)
        result.folders[folder_contents.relative_name(folder, span)] = files[folder], images[folder]
    return result


def _inspect_files(files: Sequence[ImageFile]) -> list[_Outcome]:
    """Inspect files in threads, as Pillow decodes without Python's global lock."""
    # Pillow warns of damaged metadata, which is not used, and of many pixels, which are refused.
    with ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings(action="ignore"):
        slices = (files[start : start + CHUNK] for start in range(0, len(files), CHUNK))
        chunks = pool.map(lambda chunk: [_inspect_file(file) for file in chunk], slices)
        return [outcome for chunk in chunks for outcome in chunk]


def _inspect_file(file: ImageFile) -> _Outcome:
    try:
        if not folder_contents.is_image(file.path):
            return _Outcome(reason=folder_contents.describe_suffix(file.path))
        file.key.encode()
        data = readers.read_file(file.path)
        decoded = decode(data)
    except (OSError, ValueError) as error:
        return _Outcome(reason=readers.describe_fault(error), refused=True)
    height, width = decoded.pixels.shape[:2]
    digest = blake2b(data, digest_size=16).digest()
    image = InspectedImage(file.key, file.label, file.part, digest, (height, width), decoded.grey)
    expected = Image.registered_extensions().get(file.path.suffix.lower(), decoded.format)
    mistaken = expected.replace("MPO", "JPEG") != decoded.format.replace("MPO", "JPEG")
    return _Outcome(image, decoded.changes, mistaken)


def _inspect_arrays(span: Path, root: Path) -> SpanInspection:
    used = arrays.list_array_files(root)
    result = SpanInspection(skipped=folder_contents.list_other_files(span, used, span))
    try:
        groups = readers.read_parts(root)
    except DataError as error:
        result.refused[str(error)] = [folder_contents.relative_name(path, span) for path in used]
        return result
    for group, part in groups:
        result.images += _inspect_group(group, part)
        if group.part:
            result.uses[group.part] = class_folders.USES[part]
    result.files = len(used)
    result.classes = {image.label for image in result.images} | arrays.read_declared_classes(root)
    return result


def _inspect_group(group: Group, part: str) -> list[InspectedImage]:
    height, width, channels = group.images.shape[1:]
    keys = readers.array_keys(group, 0, len(group.images))
    digests = (blake2b(image.tobytes(), digest_size=16).digest() for image in group.images)
    return [
        InspectedImage(key, label, part, digest, (height, width), channels == 1)
        for key, label, digest in zip(keys, group.labels.tolist(), digests, strict=True)
    ]
