"""Judges every new window of served rows against what the model calls normal."""

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import polars as pl
from tfx.dsl.component.experimental.annotations import BeamComponentParameter, InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact
from tfx.types.standard_artifacts import Examples, ExampleStatistics, PushedModel

from components.monitoring.comparators import compared
from components.monitoring.log_example_gen import LABELS, PLACES
from serving.drift.alarms.judge import Judge, Judged, Part
from serving.drift.gateway_monitor import BATCH, counted
from serving.drift.profiles.watched_columns import IDENTITY, VERSION, Watched
from serving.drift.profiles.windows import DAY, Cut
from serving.drift.reference import reference_profile as normals
from serving.drift.reference.metric_estimate import realised
from serving.gateway.log import tfrecords
from serving.gateway.log.tf_example import decode

REPORT, STATE, LABELLED = "report.json", "state.json", "labelled.parquet"
KEPT = 60  # windows whose labels and verdicts are kept
RIPE = 0.9  # share of a window's rows that need a label before its metric counts as realised
EMPTY = {"window": pl.Int64, "version": pl.Int64, "confidence": pl.Float64, "right": pl.Float64}


class DriftReport(Artifact):
    """A folder with ``report.json``, what was seen, and what the next one begins from: state and labelled rows."""

    TYPE_NAME = "DriftReport"


class Merged(beam.CombineFn):
    """Adds up what parts of a window's rows hold; profiles are integers, so any order gives the same."""

    def create_accumulator(self) -> Part | None:
        return None

    def add_input(self, accumulator: Part | None, element: Part) -> Part:
        return element if accumulator is None else accumulator + element

    def merge_accumulators(self, accumulators: Iterable[Part | None]) -> Part | None:
        whole = None
        for one in accumulators:
            whole = one if whole is None else whole if one is None else whole + one
        return whole

    def extract_output(self, accumulator: Part | None) -> Part | None:
        return accumulator


@component(use_beam=True)
def DriftMonitor(
    examples: InputArtifact[Examples],
    statistics: InputArtifact[ExampleStatistics],
    model: InputArtifact[PushedModel],
    config: Parameter[str],
    report: OutputArtifact[DriftReport],
    previous: InputArtifact[DriftReport] = None,
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Counts the windows' profiles in Beam, judges them in order, joins late labels, and lets TFDV compare beside.

    Args:
        examples: A split a window, and labels.
        statistics: TFDV's, of each window.
        model: The version that is served now; those that answered lie beside it.
        config: As JSON: ``cut``, ``versions``, ``case``.
        report: What is written.
        previous: The report before, whose state is gone on from.
        beam_pipeline: Counts.
    """
    told, out = json.loads(config), Path(report.uri)
    cut, versions = Cut(**told["cut"]), Path(told["versions"])
    before = Path(previous.uri) if previous else None
    windows = sorted(int(name.rpartition("-")[2]) for name in artifact_utils.decode_split_names(examples.split_names))
    parts = profiles(beam_pipeline, Path(examples.uri), windows, versions, out / "parts")
    state = json.loads((before / STATE).read_text()) if before else {"windows": [], "places": {}}
    judge = Judge(lambda version: normals.of_version(versions, version), cut.least)
    if "judge" in state:
        judge.load(state["judge"])
    new = [judge.observe(window, parts[window]) for window in windows if parts[window]]
    seen = [*(Judged.read(one) for one in state["windows"]), *new][-KEPT:]
    places = {**state["places"], **json.loads(Path(examples.uri, PLACES).read_text())}
    places = {window: places[window] for window in sorted(places, key=int)[-KEPT:]}
    labels = labelled(before, Path(examples.uri), versions, cut, places)
    labels.write_parquet(out / LABELLED)
    state = {"judge": judge.state(), "windows": [asdict(one) for one in seen], "places": places}
    (out / STATE).write_text(json.dumps(state))
    found = {
        "case": told["case"],
        "new": windows,
        "windows": state["windows"],
        "incidents": judge.incidents.to_json()["seen"],
        "realised": metrics(labels, seen, judge),
        "tfdv": compared(statistics, new, versions),
    }
    (out / REPORT).write_text(json.dumps(found, indent=1))
    report.set_string_custom_property("case", told["case"])
    report.set_int_custom_property("window", windows[-1])
    report.set_int_custom_property("open_incidents", len(judge.incidents.open))


def profiles(
    pipeline: beam.Pipeline, folder: Path, windows: list[int], versions: Path, scratch: Path
) -> dict[int, dict[int, Part]]:
    """What each version answered in each window, by window and version."""
    scratch.mkdir(parents=True, exist_ok=True)
    shards = [
        (window, str(path)) for window in windows for path in sorted((folder / f"Split-window-{window}").iterdir())
    ]
    with pipeline as running:
        _ = (
            running
            | beam.Create(shards)
            | beam.FlatMap(_counted, str(versions))
            | beam.CombinePerKey(Merged())
            | beam.Map(_written, str(scratch))
        )
    found: dict[int, dict[int, Part]] = {window: {} for window in windows}
    for path in sorted(scratch.glob("*.json")):
        window, version = map(int, path.stem.split("-"))
        known = normals.of_version(versions, version)
        profile = type(known.baseline.pooled).from_bytes(path.read_bytes())
        found[window][version] = Part(profile, np.load(path.with_suffix(".npy")))
    return found


def _counted(shard: tuple[int, str], versions: str) -> Iterator[tuple[tuple[int, int], Part]]:
    window, path = shard
    waiting: dict[int, list[bytes]] = {}
    for _, record in tfrecords.read(Path(path)):
        version = decode(record, (VERSION,))[VERSION][0]
        waiting.setdefault(version, []).append(record)
    for version, rows in waiting.items():
        try:
            known = normals.of_version(Path(versions), version)
        except ValueError:
            continue  # pushed before versions said what is normal
        for start in range(0, len(rows), BATCH):
            yield (window, version), counted(known, rows[start : start + BATCH])


def _written(element: tuple[tuple[int, int], Part], scratch: str) -> None:
    (window, version), part = element
    np.save(Path(scratch, f"{window}-{version}.npy"), part.scores)
    Path(scratch, f"{window}-{version}.json").write_bytes(part.profile.to_bytes())


def labelled(before: Path | None, folder: Path, versions: Path, cut: Cut, places: Mapping[str, Any]) -> pl.DataFrame:
    """Labelled predictions of the last windows: window, version, confidence, and whether it was right, or positive."""
    rows: dict[int, list[bytes]] = {}
    for path in sorted((folder / f"Split-{LABELS}").iterdir()):
        for _, record in tfrecords.read(path):
            rows.setdefault(decode(record, (VERSION,))[VERSION][0], []).append(record)
    parts = [pl.read_parquet(before / LABELLED)] if before else []
    for version, held in rows.items():
        try:
            watched = normals.of_version(versions, version).watched
        except ValueError:
            continue
        parts.append(_outcomes(version, watched, held, cut, places))
    table = pl.concat([pl.DataFrame(schema=EMPTY), *parts])
    return table.filter(pl.col("window") > pl.col("window").max() - KEPT) if len(table) else table


def _outcomes(version: int, watched: Watched, held: list[bytes], cut: Cut, places: Mapping[str, Any]) -> pl.DataFrame:
    told = [decode(one, (cut.time, IDENTITY, "label/value")) for one in held]
    scores = watched.scores(held)
    windows = [_window(one, cut, places) for one in told]
    right = watched.right(scores, [one["label/value"][0] for one in told])
    columns = {
        "window": windows,
        "version": [version] * len(held),
        "confidence": watched.confidence(scores),
        "right": right,
    }
    return pl.DataFrame(columns, schema=EMPTY)


def _window(told: Mapping[str, list[Any]], cut: Cut, places: Mapping[str, Any]) -> int:
    """A record's window: its day, or the last one that begins at or before its place in the log."""
    if cut.time:
        return told[cut.time][0] // DAY
    _, file, offset, _ = told[IDENTITY][0].decode().rsplit(".", 3)
    begins = sorted((tuple(place), int(window)) for window, place in places.items())
    at = bisect_right([place for place, _ in begins], (int(file, 16), int(offset, 16)))
    return begins[at - 1][1] if at else -1


def metrics(labels: pl.DataFrame, seen: list[Judged], judge: Judge) -> dict[str, dict[str, Any]]:
    """The metric of each window whose rows have labels by now, by window."""
    found = {}
    for one in seen:
        rows = labels.filter(window=one.window, version=one.version)
        if one.version and len(rows) >= RIPE * one.rows:
            metric = judge.normal(one.version).estimator.metric
            found[str(one.window)] = asdict(realised(metric, rows["confidence"].to_numpy(), rows["right"].to_numpy()))
    return found
