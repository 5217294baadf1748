"""Turn folders of pictures into examples, split as in the source or by a hash of the row's key."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.data.data_report import DataReport
from models.errors import DataError
from models.image.raw import readers, sources
from models.image.raw.class_folders import ONLY_TRAIN
from models.image.raw.image_report import build_report
from models.image.raw.inspection import inspect_span

BUCKETS = 10_000


def prepare(data: str | None, cache: Path, settings: Mapping[str, Any]) -> Path:
    """Return the folder of pictures: a path, a Keras data set by name, or the built-in digits, written on first use."""
    if not data:
        return sources.store_digits(cache / "digits")
    if data in sources.KERAS and not Path(data).exists():
        return sources.store_keras_dataset(data, cache / data)
    return Path(data)


def generate(
    out: Path, rows: int, days: int, seed: int, drift: Sequence[str], progress: Callable[[int, int], None]
) -> str:
    """Not supported, as the pictures of this case are real.

    Raises:
        DataError: always; names the alternatives.
    """
    raise DataError("The image case has no generator: use its built-in digits, or any folder with --data.")


def check(spans: Mapping[int, Path], settings: Mapping[str, Any]) -> DataReport:
    """Decode every image and account for every file, before anything runs.

    Returns:
        A report whose settings are ``height``, ``width`` and ``channels`` where they are not set, and the sorted list
        ``classes``. Damaged files and classes that cannot be learnt are in its ``refused``.

    Raises:
        DataError: if a span is not readable or has no images in a layout that is read.
    """
    inspections = [inspect_span(span) for span in spans.values()]
    images = [image for inspection in inspections for image in inspection.images]
    splits = assign_splits([image.key for image in images], [image.part for image in images], settings)
    return build_report(inspections, splits, settings)


def unseen(settings: Mapping[str, Any]) -> int:
    """Return 0, as every span has rows of every split."""
    return 0


def read_raw(span: Path, settings: Mapping[str, Any]) -> Iterator[pa.RecordBatch]:
    """Read the raw pictures of a span."""
    yield from readers.read(span)


def examples(pipeline: Any, spans: Mapping[int, Path], settings: Mapping[str, Any]) -> Any:
    """Return batches of examples, ``(split, pa.RecordBatch)``; each span is read as one element."""
    import apache_beam as beam  # a local import: planning a run needs this module but not Beam

    return (
        pipeline
        | "Spans" >> beam.Create([str(path) for path in spans.values()])
        | "Read" >> beam.FlatMap(_read, dict(settings))
    )


def _read(span: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, pa.RecordBatch]]:
    classes = {name: number for number, name in enumerate(settings["classes"])}
    for batch in readers.read(Path(span)):
        assigned = assign_splits(batch["key"].to_pylist(), batch["part"].to_pylist(), settings)
        for split in ("train", "valid", "eval"):
            rows = pa.array(np.flatnonzero(assigned == split))
            if len(rows):
                yield split, _example(batch.take(rows), classes)


def assign_splits(keys: Sequence[str], parts: Sequence[str], settings: Mapping[str, Any]) -> np.ndarray:
    """Return the split of each row: that of its official part, else one by a stable hash of its key.

    Rows of the part 'train' are not held out for eval, those of 'only train' not for valid either.
    """
    share, part = np.array([_share(key) for key in keys]), np.array(parts, str)
    eval_share = np.where(part == "", settings["eval_share"], 0.0)
    valid_share = np.where(part == ONLY_TRAIN, 0.0, settings["valid_share"])
    hashed = np.where(share < eval_share, "eval", np.where(share < eval_share + valid_share, "valid", "train"))
    return np.select([part == "valid", part == "test"], ["valid", "eval"], hashed)


def _share(key: str) -> float:
    digest = hashlib.blake2b(key.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % BUCKETS / BUCKETS


def _example(batch: pa.RecordBatch, classes: Mapping[str, int]) -> pa.RecordBatch:
    numbers = pa.array([classes[name] for name in batch["label"].to_pylist()], pa.int64())
    columns = {name: batch[name] for name in ("key", "image", "label", "brightness", "contrast")}
    return pa.RecordBatch.from_pydict(
        {name: _as_list(value) for name, value in {**columns, "label_id": numbers}.items()}
    )


def _as_list(column: pa.Array) -> pa.Array:
    """Put each value in its own list, strings as bytes, as in ``tf.Example``."""
    values = pc.cast(column, pa.binary()) if pa.types.is_string(column.type) else column
    return pa.ListArray.from_arrays(pa.array(np.arange(len(values) + 1, dtype=np.int32)), values)
