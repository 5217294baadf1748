"""Readers of what data stages make: splits, statistics, anomalies, schemas, the transform graph."""

from collections.abc import Iterator

from tour.artifacts import charts, statistics
from tour.artifacts.parts import Chart, Features, Later, Part, Sight
from tour.evidence.result_types import Number, Table
from tour.trace import Artifact

SHOWN_WORDS = 6


def examples(one: Artifact, sight: Sight) -> Iterator[Part]:
    held = statistics.read(sight.outputs["statistics"].folder) if "statistics" in sight.outputs else {}
    rows = []
    for split in statistics.splits(one.folder):
        files = sorted((one.folder / f"Split-{split}").iterdir())
        count = held[split].num_examples if split in held else ""
        rows.append((split, count, len(files), sum(file.stat().st_size for file in files)))
    yield Table("Splits", ("split", "rows", "shards", "bytes"), tuple(rows))
    if drawn := {split: one.num_examples for split, one in held.items()}:
        names = list(drawn)
        yield Chart(
            "Rows by split", charts.bars("Rows by split", {"rows": list(drawn.values())}, names), ", ".join(names)
        )


def described(one: Artifact, sight: Sight) -> Iterator[Part]:
    held = statistics.read(one.folder)
    newest = dict(list(held.items())[-3:])  # of a monitoring pass the last windows
    yield Number("Rows described", sum(int(one.num_examples) for one in held.values()), f"in {len(held)} splits")
    yield Features("Every feature, split beside split", list(newest), statistics.features(newest))


def anomalies(one: Artifact, sight: Sight) -> Iterator[Part]:
    found = statistics.anomalies(one.folder)
    splits = statistics.splits(one.folder)
    if not found:
        yield Number("Anomalies", 0, f"in {', '.join(splits)}: every split fits the schema")
        return
    rows = tuple((row["split"], row["feature"], row["short"], row["full"]) for row in found)
    yield Table("What differs from the schema", ("split", "feature", "in short", "in full"), rows)


def curated(one: Artifact, sight: Sight) -> Iterator[Part]:
    path = one.folder / "schema.pbtxt"
    rows = tuple(tuple(row.values()) for row in statistics.schema(path))
    yield Table(f"{len(rows)} features", ("feature", "type", "shape", "may be", "has to be there"), rows)


def transform(one: Artifact, sight: Sight) -> Iterator[Part]:
    rows = tuple(
        (row["name"], row["type"], row["shape"], row["values"])
        for row in statistics.schema(one.folder / "transformed_metadata" / "schema.pbtxt")
    )
    yield Table("What comes out", ("tensor", "type", "shape of a row", "values"), rows)
    words = []
    for path in sorted((one.folder / "transform_fn" / "assets").glob("*")):
        lines = path.read_text(errors="replace").splitlines()
        words.append((path.name, len(lines), ", ".join(lines[:SHOWN_WORDS])))
    if words:
        yield Table("Vocabularies learnt from the train split", ("of", "words", "most frequent first"), tuple(words))
    yield Later("What the graph has learnt and computes", f"/figure/{sight.case}/{sight.run}/learnt")
