"""Report on the images of a window: sizes of splits and classes, settings, and what a reader has to know or change."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from models.data.data_report import DataReport, SplitCount, list_some
from models.image.raw.class_folders import PARTS
from models.image.raw.folder_contents import SYSTEM_FOLDERS
from models.image.raw.inspection import InspectedImage, SpanInspection
from models.spans import NAME

# Bounds of a side of the resized images: the network pools twice; photographs are reduced to a size that trains fast.
SMALLEST, LARGEST = 4, 64
# Classes up to which the report counts the images of each in every split.
COUNTED_CLASSES = 20
SPLITS = ("train", "valid", "eval")


def build_report(spans: Sequence[SpanInspection], splits: np.ndarray, settings: Mapping[str, Any]) -> DataReport:
    """Build the report of a window.

    Args:
        spans: The inspection of each span.
        splits: The split of each image of all spans.
        settings: Settings of the group ``data``.
    """
    images = [image for span in spans for image in span.images]
    classes = sorted(set().union(*(span.classes for span in spans)))
    counts: dict[str, Counter[str]] = {name: Counter() for name in SPLITS}
    for image, split in zip(images, splits.tolist(), strict=True):
        counts[split][image.label] += 1
    refused, few = _merge(span.refused for span in spans), len(classes) <= COUNTED_CLASSES
    return DataReport(
        settings={"classes": classes, **_choose_shape(images, settings)},
        unit="images",
        files=sum(span.files for span in spans),
        rows=len(images),
        splits={
            name: SplitCount(labels.total(), {label: labels[label] for label in classes} if few else {})
            for name, labels in counts.items()
        },
        skipped=_merge(span.skipped for span in spans),
        converted=sum((span.converted for span in spans), Counter[str]()),
        notes=[
            *_describe_parts(spans),
            *_describe_folders(spans),
            *_describe_classes(classes, counts),
            *_describe_copies(images, splits.tolist()),
        ],
        refused=[
            *(f"{list_some(paths)}: {message}" for message, paths in refused.items()),
            *_check_folders(spans),
            *_check_parts(spans),
            *_check_classes(classes, counts),
        ],
        files_refused=sum(map(len, refused.values())),
    )


def _merge(groups: Iterator[Mapping[str, Sequence[str]]]) -> dict[str, list[str]]:
    merged: dict[str, list[str]] = defaultdict(list)
    for group in groups:
        for reason, paths in group.items():
            merged[reason] += paths
    return dict(merged)


def _choose_shape(images: Sequence[InspectedImage], settings: Mapping[str, Any]) -> dict[str, int]:
    """Return the settings of the resized images' shape, by default the median size and one channel if all are grey."""
    height, width = np.median([image.size for image in images] or [(0, 0)], axis=0).astype(int)
    native = {
        "height": min(max(int(height), SMALLEST), LARGEST),
        "width": min(max(int(width), SMALLEST), LARGEST),
        "channels": 1 if all(image.grey for image in images) else 3,
    }
    return {name: settings[name] or value for name, value in native.items()}


def _describe_parts(spans: Sequence[SpanInspection]) -> list[str]:
    uses = {name: use for span in spans for name, use in span.uses.items()}
    return [f"official parts: {'; '.join(f'{name} is used as {use}' for name, use in uses.items())}"] if uses else []


def _describe_folders(spans: Sequence[SpanInspection]) -> Iterator[str]:
    empty = [name for span in spans for name, (files, _) in span.folders.items() if not files]
    if empty:
        yield f"class folders without files are left out: {list_some(empty)}"
    if nested := sorted(name for span in spans for name in span.nested):
        yield f"images in subfolders have the class of the upper folder: {list_some(nested)}"
    for span in spans:
        for label, names in span.spellings.items():
            if len(names) > 1:
                yield f"{len(names)} folders named {label} in different Unicode forms are one class"
    if mistaken := [name for span in spans for name in span.mistaken]:
        yield f"{len(mistaken)} files have another format than their suffix: {list_some(mistaken)}; the content is read"


def _check_folders(spans: Sequence[SpanInspection]) -> Iterator[str]:
    for span in spans:
        for name, (files, images) in span.folders.items():
            if files and not images:
                yield f"{name}: none of the {files} files in this class folder is an image; add images or remove it."


def _describe_classes(classes: Sequence[str], counts: Mapping[str, Counter[str]]) -> Iterator[str]:
    totals = sum(counts.values(), Counter[str]())
    for text, labels in (
        ("no image", [label for label in classes if not totals[label]]),
        ("one image", [label for label in classes if totals[label] == 1]),
        ("no image in eval", [label for label in classes if totals[label] > 1 and not counts["eval"][label]]),
    ):
        if labels:
            yield f"{len(labels)} class{'es have' if len(labels) > 1 else ' has'} {text}: {list_some(labels)}"


def _describe_copies(images: Sequence[InspectedImage], splits: Sequence[str]) -> Iterator[str]:
    copies: dict[bytes, list[tuple[InspectedImage, str]]] = defaultdict(list)
    for image, split in zip(images, splits, strict=True):
        copies[image.digest].append((image, split))
    groups = [group for group in copies.values() if len(group) > 1]
    mixed = [group for group in groups if len({image.label for image, _ in group}) > 1]
    if mixed:
        examples = [" = ".join(f"{image.label} {image.key}" for image, _ in group[:2]) for group in mixed]
        yield f"{len(mixed)} images are in several classes with equal content: {list_some(examples)}"
    leaked = [group for group in groups if len({split for _, split in group}) > 1]
    if leaked:
        examples = [" = ".join(f"{split} {image.key}" for image, split in group[:2]) for group in leaked]
        yield f"{len(leaked)} images are in several splits with equal content: {list_some(examples)}"


def _check_parts(spans: Sequence[SpanInspection]) -> Iterator[str]:
    """Refuse a span whose only classes are named as parts; another span may have real classes."""
    for classes in sorted({tuple(sorted(span.classes)) for span in spans}):
        if len(classes) > 1 and all(label.lower() in PARTS for label in classes):
            folders = ", ".join(classes)
            yield f"The folders {folders} hold no class folders; put the images of each in a folder for each class."


def _check_classes(classes: Sequence[str], counts: Mapping[str, Counter[str]]) -> Iterator[str]:
    if len(classes) < 2:
        yield f"The data has the classes {classes}, but a classifier needs at least two; add images of another class."
    for label in classes:
        if reason := _find_name_fault(label):
            yield f"The class {label!r} {reason}; rename it."
    totals = sum(counts.values(), Counter[str]())
    untrained = [label for label in classes if totals[label] and not counts["train"][label]]
    if untrained:
        places = [f"{label} ({', '.join(name for name in SPLITS if counts[name][label])} only)" for label in untrained]
        yield f"No image is in the train split for {list_some(places)}; add images of the class to it, or remove the class."
    for name in SPLITS:
        if totals and not counts[name]:
            yield f"The split {name} has no images; add images, or change valid_share and eval_share."


def _find_name_fault(label: str) -> str:
    """Why images of a class could not be stored in a folder of its name; empty if they can be."""
    if not label.strip() or "/" in label or "\0" in label or label.startswith(".") or label.lower() in SYSTEM_FOLDERS:
        return "cannot be the name of a folder of images"
    if NAME.fullmatch(label):
        return "is the name of a span; give the folder that holds the spans as --data. If it is a class"
    if any(unicodedata.category(character) == "Cc" for character in label):
        return "has a control character"
    return "is longer than 255 bytes" if len(label.encode("utf-8", "replace")) > 255 else ""
