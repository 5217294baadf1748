"""A NumPy file of points for each span; every tenth row is eval, the next one valid."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from models.data.data_report import DataReport
from models.errors import DataError


def prepare(data: str | None, cache: Path, settings: Mapping[str, Any]) -> Path:
    """Return the given folder, or one with random points."""
    if data:
        return Path(data)
    folder = cache / f"tiny-{settings['rows']}"
    (folder / "span-000").mkdir(parents=True, exist_ok=True)
    points = np.random.default_rng(1).normal(size=(settings["rows"], 2)).astype(np.float32)
    np.save(folder / "span-000" / "points.npy", points)
    return folder


def check(spans: Mapping[int, Path], settings: Mapping[str, Any]) -> DataReport:
    """Check that every span has its file."""
    for span in spans.values():
        if not (span / "points.npy").is_file():
            raise DataError(f"{span} has no points.npy; write the points to it.")
    return DataReport(settings={}, unit="points", files=len(spans))


def examples(pipeline: Any, spans: Mapping[int, Path], settings: Mapping[str, Any]) -> Any:
    """Return batches of examples, ``(split, pa.RecordBatch)``."""
    import apache_beam as beam

    return pipeline | beam.Create([str(path) for path in spans.values()]) | beam.FlatMap(_read)


def _read(span: str) -> Iterator[tuple[str, pa.RecordBatch]]:
    points = np.load(Path(span, "points.npy"))
    remainder = np.arange(len(points)) % 10
    for split, rows in (("train", remainder > 1), ("valid", remainder == 1), ("eval", remainder == 0)):
        x, y = points[rows].T
        keys = [f"{Path(span).name}/{row}".encode() for row in np.flatnonzero(rows)]
        columns = {"key": keys, "x": x, "y": y, "above": (x + y > 0).astype(np.int64)}
        yield split, pa.RecordBatch.from_pydict({name: pa.array([[v] for v in vs]) for name, vs in columns.items()})
