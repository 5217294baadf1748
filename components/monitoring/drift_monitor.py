"""Judge every new window of served rows against the model's reference profile."""

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

from components.monitoring.comparators import compare_windows
from components.monitoring.log_example_gen import LABELS, PLACES
from serving.drift.alarms.judge import Judge, WindowPart, WindowResult
from serving.drift.gateway_monitor import BATCH_ROWS, profile_records
from serving.drift.profiles.watched_columns import IDENTITY, VERSION, WatchedColumns
from serving.drift.profiles.windows import DAY, Windowing
from serving.drift.reference import reference_profile
from serving.drift.reference.metric_estimate import measure_metric
from serving.gateway.log import tfrecords
from serving.gateway.log.tf_example import decode

REPORT, STATE, LABELLED = "report.json", "state.json", "labelled.parquet"
MAX_WINDOWS = 60  # number of last windows whose labels and verdicts a report contains
MIN_LABELLED_SHARE = 0.9  # share of a window's rows that need a label before its realised metric is reported
EMPTY = {"window": pl.Int64, "version": pl.Int64, "confidence": pl.Float64, "right": pl.Float64}


class DriftReport(Artifact):
    """A folder with ``report.json``, and what the next report continues from: ``state.json`` and ``labelled.parquet``."""

    TYPE_NAME = "DriftReport"


class MergeParts(beam.CombineFn):
    """Add up the profiles of parts of a window; their counts are integers, so the order does not matter."""

    def create_accumulator(self) -> WindowPart | None:
        return None

    def add_input(self, accumulator: WindowPart | None, element: WindowPart) -> WindowPart:
        return element if accumulator is None else accumulator + element

    def merge_accumulators(self, accumulators: Iterable[WindowPart | None]) -> WindowPart | None:
        total = None
        for part in accumulators:
            total = part if total is None else total if part is None else total + part
        return total

    def extract_output(self, accumulator: WindowPart | None) -> WindowPart | None:
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
    """Profile the windows in Beam, judge them in order, join late labels, and add TFDV's comparators.

    Args:
        examples: One split a window, and the labelled predictions.
        statistics: TFDV's statistics of each window.
        model: The version that is served now.
        config: JSON with ``cut`` (how the log is cut into windows), ``versions`` (folder of all versions) and ``case``.
        report: Output.
        previous: The report before, whose state this one continues.
        beam_pipeline: Pipeline that counts the profiles.
    """
    options, output = json.loads(config), Path(report.uri)
    cut, versions = Windowing(**options["cut"]), Path(options["versions"])
    last_report = Path(previous.uri) if previous else None
    windows = sorted(int(name.rpartition("-")[2]) for name in artifact_utils.decode_split_names(examples.split_names))
    parts = profile_windows(beam_pipeline, Path(examples.uri), windows, versions, output / "parts")
    state = json.loads((last_report / STATE).read_text()) if last_report else {"windows": [], "places": {}}
    judge = Judge(lambda version: reference_profile.load_version(versions, version), cut.least)
    if "judge" in state:
        judge.load(state["judge"])
    new = [judge.observe(window, parts[window]) for window in windows if parts[window]]
    verdicts = [*(WindowResult.read(stored) for stored in state["windows"]), *new][-MAX_WINDOWS:]
    places = {**state["places"], **json.loads(Path(examples.uri, PLACES).read_text())}
    places = {window: places[window] for window in sorted(places, key=int)[-MAX_WINDOWS:]}
    labels = collect_outcomes(last_report, Path(examples.uri), versions, cut, places)
    labels.write_parquet(output / LABELLED)
    state = {"judge": judge.state(), "windows": [asdict(verdict) for verdict in verdicts], "places": places}
    (output / STATE).write_text(json.dumps(state))
    findings = {
        "case": options["case"],
        "new": windows,
        "windows": state["windows"],
        "incidents": judge.incidents.to_json()["seen"],
        "realised": compute_realised(labels, verdicts, judge),
        "tfdv": compare_windows(statistics, new, versions),
    }
    (output / REPORT).write_text(json.dumps(findings, indent=1))
    report.set_string_custom_property("case", options["case"])
    report.set_int_custom_property("window", windows[-1])
    report.set_int_custom_property("open_incidents", len(judge.incidents.open))


def profile_windows(
    pipeline: beam.Pipeline, folder: Path, windows: list[int], versions: Path, scratch: Path
) -> dict[int, dict[int, WindowPart]]:
    """Profile each version's answers in each window; returns parts by window and version."""
    scratch.mkdir(parents=True, exist_ok=True)
    shards = [
        (window, str(path)) for window in windows for path in sorted((folder / f"Split-window-{window}").iterdir())
    ]
    with pipeline as running:
        _ = (
            running
            | beam.Create(shards)
            | beam.FlatMap(_count_shard, str(versions))
            | beam.CombinePerKey(MergeParts())
            | beam.Map(_write_part, str(scratch))
        )
    parts: dict[int, dict[int, WindowPart]] = {window: {} for window in windows}
    for path in sorted(scratch.glob("*.json")):
        window, version = map(int, path.stem.split("-"))
        profile = reference_profile.load_version(versions, version)
        counts = type(profile.baseline.pooled).from_bytes(path.read_bytes())
        parts[window][version] = WindowPart(counts, np.load(path.with_suffix(".npy")))
    return parts


def _count_shard(shard: tuple[int, str], versions: str) -> Iterator[tuple[tuple[int, int], WindowPart]]:
    window, path = shard
    records: dict[int, list[bytes]] = {}
    for _, record in tfrecords.read(Path(path)):
        version = decode(record, (VERSION,))[VERSION][0]
        records.setdefault(version, []).append(record)
    for version, rows in records.items():
        try:
            profile = reference_profile.load_version(Path(versions), version)
        except ValueError:
            continue  # a version pushed before exports carried a reference profile
        for start in range(0, len(rows), BATCH_ROWS):
            yield (window, version), profile_records(profile, rows[start : start + BATCH_ROWS])


def _write_part(element: tuple[tuple[int, int], WindowPart], scratch: str) -> None:
    (window, version), part = element
    np.save(Path(scratch, f"{window}-{version}.npy"), part.scores)
    Path(scratch, f"{window}-{version}.json").write_bytes(part.profile.to_bytes())


def collect_outcomes(
    last_report: Path | None, folder: Path, versions: Path, cut: Windowing, places: Mapping[str, Any]
) -> pl.DataFrame:
    """Labelled predictions of the last windows: window, version, confidence, and whether the answer was right.

    For a binary case ``right`` is whether the label is positive.
    """
    rows: dict[int, list[bytes]] = {}
    for path in sorted((folder / f"Split-{LABELS}").iterdir()):
        for _, record in tfrecords.read(path):
            rows.setdefault(decode(record, (VERSION,))[VERSION][0], []).append(record)
    parts = [pl.read_parquet(last_report / LABELLED)] if last_report else []
    for version, records in rows.items():
        try:
            watched = reference_profile.load_version(versions, version).watched
        except ValueError:
            continue
        parts.append(_outcomes(version, watched, records, cut, places))
    table = pl.concat([pl.DataFrame(schema=EMPTY), *parts])
    return table.filter(pl.col("window") > pl.col("window").max() - MAX_WINDOWS) if len(table) else table


def _outcomes(
    version: int, watched: WatchedColumns, records: list[bytes], cut: Windowing, places: Mapping[str, Any]
) -> pl.DataFrame:
    fields = [decode(record, (cut.time, IDENTITY, "label/value")) for record in records]
    scores = watched.scores(records)
    windows = [_find_window(record, cut, places) for record in fields]
    right = watched.right(scores, [record["label/value"][0] for record in fields])
    columns = {
        "window": windows,
        "version": [version] * len(records),
        "confidence": watched.confidence(scores),
        "right": right,
    }
    return pl.DataFrame(columns, schema=EMPTY)


def _find_window(fields: Mapping[str, list[Any]], cut: Windowing, places: Mapping[str, Any]) -> int:
    """A record's window: its day, or the last window that begins at or before its position in the log; -1 for none."""
    if cut.time:
        return fields[cut.time][0] // DAY
    _, file, offset, _ = fields[IDENTITY][0].decode().rsplit(".", 3)
    begins = sorted((tuple(place), int(window)) for window, place in places.items())
    at = bisect_right([place for place, _ in begins], (int(file, 16), int(offset, 16)))
    return begins[at - 1][1] if at else -1


def compute_realised(labels: pl.DataFrame, verdicts: list[WindowResult], judge: Judge) -> dict[str, dict[str, Any]]:
    """Compute the metric of each window that has enough labels by now."""
    values = {}
    for judged in verdicts:
        rows = labels.filter(window=judged.window, version=judged.version)
        if judged.version and len(rows) >= MIN_LABELLED_SHARE * judged.rows:
            metric = judge.normal(judged.version).estimator.metric
            values[str(judged.window)] = asdict(
                measure_metric(metric, rows["confidence"].to_numpy(), rows["right"].to_numpy())
            )
    return values
