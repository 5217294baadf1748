"""Readers of the artifacts of data stages: splits, statistics, anomalies, schemas, transform graphs."""

from collections.abc import Iterator

from tour import charts
from tour.artifacts import statistics
from tour.artifacts.parts import Chart, Features, Later, Part, RunContext
from tour.evidence.result_types import Number, Table
from tour.trace import Artifact

SHOWN_WORDS = 6


def examples(artifact: Artifact, context: RunContext) -> Iterator[Part]:
    split_statistics = (
        statistics.read_statistics(context.outputs["statistics"].folder) if "statistics" in context.outputs else {}
    )
    rows = []
    for split in statistics.splits(artifact.folder):
        files = sorted((artifact.folder / f"Split-{split}").iterdir())
        count = split_statistics[split].num_examples if split in split_statistics else ""
        rows.append((split, count, len(files), sum(file.stat().st_size for file in files)))
    yield Table("Splits", ("split", "rows", "shards", "bytes"), tuple(rows))
    if counts := {split: stats.num_examples for split, stats in split_statistics.items()}:
        names = list(counts)
        yield Chart(
            "Rows by split", charts.bar_chart("Rows by split", {"rows": list(counts.values())}, names), ", ".join(names)
        )


def example_statistics(artifact: Artifact, context: RunContext) -> Iterator[Part]:
    split_statistics = statistics.read_statistics(artifact.folder)
    latest = dict(list(split_statistics.items())[-3:])  # a monitoring run has one split per window; show the last three
    rows = sum(int(stats.num_examples) for stats in split_statistics.values())
    yield Number("Rows in the statistics", rows, f"in {len(split_statistics)} splits")
    yield Features("Features by split", list(latest), statistics.features(latest))


def anomalies(artifact: Artifact, context: RunContext) -> Iterator[Part]:
    differences = statistics.anomalies(artifact.folder)
    splits = statistics.splits(artifact.folder)
    if not differences:
        yield Number("Anomalies", 0, f"in {', '.join(splits)}: every split matches the schema")
        return
    rows = tuple((row["split"], row["feature"], row["short"], row["full"]) for row in differences)
    yield Table("Anomalies against the schema", ("split", "feature", "summary", "description"), rows)


def schema(artifact: Artifact, context: RunContext) -> Iterator[Part]:
    path = artifact.folder / "schema.pbtxt"
    rows = tuple(tuple(row.values()) for row in statistics.schema(path))
    yield Table(f"{len(rows)} features", ("feature", "type", "shape", "domain", "required presence"), rows)


def transform(artifact: Artifact, context: RunContext) -> Iterator[Part]:
    rows = tuple(
        (row["name"], row["type"], row["shape"], row["values"])
        for row in statistics.schema(artifact.folder / "transformed_metadata" / "schema.pbtxt")
    )
    yield Table("Transformed features", ("tensor", "type", "shape of a row", "values"), rows)
    vocabularies = []
    for path in sorted((artifact.folder / "transform_fn" / "assets").glob("*")):
        lines = path.read_text(errors="replace").splitlines()
        vocabularies.append((path.name, len(lines), ", ".join(lines[:SHOWN_WORDS])))
    if vocabularies:
        yield Table(
            "Vocabularies learnt from the train split",
            ("vocabulary", "words", "most frequent words"),
            tuple(vocabularies),
        )
    yield Later("Learnt constants and operations of the graph", f"/figure/{context.case}/{context.run}/learnt")
