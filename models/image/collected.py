"""Pictures that were served and named since, as a raw span again, so that a model can learn from what it has seen."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any


def write(folder: Path, rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> int:
    """Writes a folder a class; pictures without a label, or of a class that the model does not have, are left out.

    Args:
        folder: Of the span; made.
        rows: Of each picture ``key``, ``features`` by name, and ``label``, None where none has come.
        settings: Of the data.

    Returns:
        How many were written.
    """
    classes, count = settings["classes"].split(","), 0
    for row in rows:
        if row["label"] not in classes:
            continue
        data = row["features"]["image"][0]
        suffix = ".png" if data.startswith(b"\x89PNG") else ".jpg"
        place = folder / row["label"] / (blake2b(row["key"].encode(), digest_size=8).hexdigest() + suffix)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        count += 1
    return count
