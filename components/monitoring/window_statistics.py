"""TFDV's statistics of many small windows in one pass."""

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
BUCKETS = 50  # quantiles as fine as drift is looked for
FILE = "FeatureStats.pb"


@component(use_beam=True)
def WindowStatistics(
    examples: InputArtifact[Examples],
    features: Parameter[str],
    statistics: OutputArtifact[ExampleStatistics],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Describes each window's watched features, as StatisticsGen would.

    That one makes a graph of its own for every split, which takes about a second: longer than counting a day's rows. Here the
    windows are slices of one graph, of the same size however many there are.

    Args:
        examples: A split a window.
        features: Names of the features that are described, as JSON.
        statistics: What is written: ``Split-*/FeatureStats.pb``.
        beam_pipeline: Counts.
    """
    splits = artifact_utils.decode_split_names(examples.split_names)
    described(beam_pipeline, Path(examples.uri), splits, json.loads(features), Path(statistics.uri))
    statistics.split_names = examples.split_names


def described(pipeline: beam.Pipeline, folder: Path, splits: Sequence[str], features: Sequence[str], out: Path) -> None:
    """Writes the statistics of these features for each split of a folder of examples."""
    from tensorflow_data_validation import StatsOptions  # after TFX: it needs a stand-in that TFX puts in place
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
            | beam.FlatMap(lambda found: list(found.datasets))
            | beam.Map(_write, str(out))
        )


def _read(shard: tuple[str, str], features: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """The shard's rows as Arrow batches of the features that are there, each behind its split."""
    from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

    split, path = shard
    decoder, rows = ExamplesToRecordBatchDecoder(), [record for _, record in tfrecords.read(Path(path))]
    for start in range(0, len(rows), BATCH):
        batch = decoder.DecodeBatch(rows[start : start + BATCH])
        yield split, batch.select([name for name in features if name in batch.schema.names])


def _write(found: Any, out: str) -> None:
    from tensorflow_metadata.proto.v0 import statistics_pb2

    path = Path(out, f"Split-{found.name}", FILE)
    path.parent.mkdir(parents=True)
    found.name = ""
    path.write_bytes(statistics_pb2.DatasetFeatureStatisticsList(datasets=[found]).SerializeToString())
