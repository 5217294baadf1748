"""TFDV statistics of many small windows in one Beam pass."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from tfx.dsl.component.experimental.annotations import BeamComponentParameter, InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, ExampleStatistics

from serving.gateway.log import tfrecords

BATCH = 1024
BUCKETS = 50  # quantiles, fine enough for drift detection
FILE = "FeatureStats.pb"


@component(use_beam=True)
def WindowStatistics(
    examples: InputArtifact[Examples],
    features: Parameter[str],
    statistics: OutputArtifact[ExampleStatistics],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Compute the statistics of each window's watched features, as StatisticsGen would.

    StatisticsGen builds a Beam graph for every split, which takes about a second: longer than counting a day's rows.
    Here the windows are slices of one graph, whose size does not depend on their number.

    Args:
        examples: One split a window.
        features: Names of the features, as JSON.
        statistics: Output: ``Split-*/FeatureStats.pb``.
        beam_pipeline: Pipeline that computes the statistics.
    """
    splits = artifact_utils.decode_split_names(examples.split_names)
    write_statistics(beam_pipeline, Path(examples.uri), splits, json.loads(features), Path(statistics.uri))
    statistics.split_names = examples.split_names


def write_statistics(
    pipeline: beam.Pipeline, folder: Path, splits: Sequence[str], features: Sequence[str], out: Path
) -> None:
    """Write the statistics of these features for each split of a folder of examples."""
    from tensorflow_data_validation import StatsOptions  # after TFX: TFDV needs a module stub that TFX installs
    from tensorflow_data_validation.statistics.stats_impl import GenerateSlicedStatisticsImpl

    options = StatsOptions(experimental_use_sketch_based_topk_uniques=True, num_quantiles_histogram_buckets=BUCKETS)
    shards = [(split, str(path)) for split in splits for path in sorted((folder / f"Split-{split}").iterdir())]
    with pipeline as running:
        _ = (
            running
            | beam.Create(shards)
            | beam.Reshuffle()
            | beam.FlatMap(_read, tuple(features))
            | GenerateSlicedStatisticsImpl(options, is_slicing_enabled=True)
            | beam.FlatMap(lambda slices: list(slices.datasets))
            | beam.Map(_write, str(out))
        )


def _read(shard: tuple[str, str], features: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield the shard's rows as ``(split, Arrow batch)``, with those of the features that the shard has."""
    from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

    split, path = shard
    decoder, rows = ExamplesToRecordBatchDecoder(), [record for _, record in tfrecords.read(Path(path))]
    for start in range(0, len(rows), BATCH):
        batch = decoder.DecodeBatch(rows[start : start + BATCH])
        yield split, batch.select([name for name in features if name in batch.schema.names])


def _write(statistics: Any, out: str) -> None:
    from tensorflow_metadata.proto.v0 import statistics_pb2

    path = Path(out, f"Split-{statistics.name}", FILE)
    path.parent.mkdir(parents=True)
    statistics.name = ""
    path.write_bytes(statistics_pb2.DatasetFeatureStatisticsList(datasets=[statistics]).SerializeToString())
