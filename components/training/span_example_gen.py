"""ExampleGen over a rolling window of spans; it serializes whole Arrow batches without a loop over rows."""

import hashlib
import json
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import tensorflow as tf
from google.protobuf import wrappers_pb2
from tfx.components.example_gen import driver
from tfx.components.example_gen.component import FileBasedExampleGen
from tfx.dsl.components.base import base_beam_executor, executor_spec
from tfx.orchestration import data_types_utils
from tfx.orchestration.portable import data_types
from tfx.proto import example_gen_pb2, range_config_pb2
from tfx.proto.orchestration import driver_output_pb2
from tfx.types import Artifact, artifact_utils, standard_component_specs
from tfx.utils import proto_utils
from tfx_bsl.coders import example_coder

from models import spans as span_folders
from models.catalog import find_use_case

SPLITS = ("train", "valid", "eval")


class Driver(driver.FileBasedDriver):
    """Resolves the window of spans; records its numbers and content digest, so that the cache key depends on the data."""

    def run(self, execution_info: data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:
        properties = execution_info.exec_properties
        spans = select_spans(properties)
        version = span_folders.digest_spans(spans.values())
        output = driver_output_pb2.DriverOutput()
        for name, value in {**properties, "span": max(spans), "input_fingerprint": version}.items():
            if value is not None:
                data_types_utils.set_metadata_value(output.exec_properties[name], value)
        artifact = execution_info.output_dict["examples"][0].mlmd_artifact
        for name, value in {"span": max(spans), "first_span": min(spans), "input_fingerprint": version}.items():
            data_types_utils.set_metadata_value(artifact.custom_properties[name], value)
        output.output_artifacts["examples"].artifacts.append(artifact)
        return output


class Executor(base_beam_executor.BaseBeamExecutor):
    """Writes the case's examples as sharded TFRecords, a folder for each split."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Run the case's Beam pipeline over the window.

        Raises:
            ValueError: if a split is empty.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        config = _unpack_config(exec_properties)
        artifact = artifact_utils.get_single_instance(output_dict["examples"])
        with self._make_beam_pipeline() as pipeline:
            batches = (
                find_use_case(config["case"])
                .load("data")
                .examples(pipeline, select_spans(exec_properties), config["settings"])
            )
            _ = batches | "Encode" >> beam.ParDo(Write(artifact.uri))
        artifact.split_names = artifact_utils.encode_split_names(list(SPLITS))
        for split in SPLITS:
            if not any(Path(artifact.uri, f"Split-{split}").glob("*")):
                raise ValueError(f"The split '{split}' has no examples; give more spans or change the split settings.")


class Write(beam.DoFn):
    """Serializes each batch, ``(split, pa.RecordBatch)``, into a shard of its own."""

    def __init__(self, uri: str):
        self._uri = uri

    def process(self, element: tuple[str, pa.RecordBatch]) -> None:
        """Write the batch; the shard's name is a hash of its rows, so that a retried bundle writes the same file.

        The hash is of the Arrow rows: the order of features in a serialized example differs between processes, and
        shards are read in the order of their names.
        """
        split, batch = element
        folder = Path(self._uri, f"Split-{split}")
        folder.mkdir(parents=True, exist_ok=True)
        name = f"examples-{hashlib.blake2b(batch.serialize(), digest_size=8).hexdigest()}"
        with tf.io.TFRecordWriter(str(folder / name)) as writer:
            for example in example_coder.RecordBatchToExamplesEncoder().encode(batch):
                writer.write(example)


class SpanExampleGen(FileBasedExampleGen):
    """A file-based ExampleGen whose range config is a window of spans instead of one span."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
    DRIVER_CLASS = Driver


def create_example_gen(source: str, first: int, last: int, config: dict[str, Any]) -> SpanExampleGen:
    """Create the node that reads spans ``first`` to ``last`` of a source; -1 is the source's own first or last span."""
    static = range_config_pb2.StaticRange(start_span_number=first, end_span_number=last)
    return SpanExampleGen(
        input_base=source,
        range_config=range_config_pb2.RangeConfig(static_range=static),
        custom_config=_pack_config(config),
        output_config=example_gen_pb2.Output(
            split_config=example_gen_pb2.SplitConfig(
                splits=[example_gen_pb2.SplitConfig.Split(name=name, hash_buckets=1) for name in SPLITS]
            )
        ),
    )


def select_spans(exec_properties: dict[str, Any]) -> dict[int, Path]:
    """The spans that the range config selects: folders by number."""
    config = range_config_pb2.RangeConfig()
    proto_utils.json_to_proto(exec_properties[standard_component_specs.RANGE_CONFIG_KEY], config)
    bounds = config.static_range
    source = Path(exec_properties[standard_component_specs.INPUT_BASE_KEY])
    return span_folders.select_window(source, bounds.start_span_number, bounds.end_span_number)


def _pack_config(config: dict[str, Any]) -> example_gen_pb2.CustomConfig:
    custom = example_gen_pb2.CustomConfig()
    custom.custom_config.Pack(wrappers_pb2.StringValue(value=json.dumps(config, sort_keys=True)))
    return custom


def _unpack_config(exec_properties: dict[str, Any]) -> dict[str, Any]:
    custom = example_gen_pb2.CustomConfig()
    proto_utils.json_to_proto(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY], custom)
    value = wrappers_pb2.StringValue()
    custom.custom_config.Unpack(value)
    return json.loads(value.value)
