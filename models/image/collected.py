"""Write served and labelled pictures as a raw span, so that a model can be retrained on them."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from models.data.class_names import list_classes


def write(folder: Path, rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> int:
    """Write a folder for each class; skip pictures without a label, or with a label that is not a class of the model.

    Args:
        folder: Folder of the span; created.
        rows: For each picture ``key``, ``features`` by name, and ``label``, None where no label has arrived.
        settings: Settings of the group ``data``.

    Returns:
        Number of pictures written.
    """
    classes, count = list_classes(settings), 0
    for row in rows:
        if row["label"] not in classes:
            continue
        data = row["features"]["image"][0]
        suffix = ".png" if data.startswith(b"\x89PNG") else ".jpg"
        path = folder / row["label"] / (blake2b(row["key"].encode(), digest_size=8).hexdigest() + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        count += 1
    return count
