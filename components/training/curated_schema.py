"""The hand-curated schema as an artifact of the run."""

from collections.abc import Collection
from pathlib import Path

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Schema


@component
def CuratedSchema(
    text: Parameter[str],
    evaluated: Parameter[str],
    schema: OutputArtifact[Schema],
    evaluation_schema: OutputArtifact[Schema],
) -> None:
    """Write the curated schema, and the part of it that the Evaluator reads.

    ``evaluated`` names that part, label and slice features, comma-separated. The text is a parameter, so that an edit
    changes the cache key. The Evaluator parses rows feature by feature; the model gets serialized examples and needs
    none of them, so every feature that is left out saves time on every row.
    """
    parsed = text_format.Parse(text, schema_pb2.Schema())
    for artifact, part in ((schema, parsed), (evaluation_schema, select_features(parsed, evaluated.split(",")))):
        Path(artifact.uri, "schema.pbtxt").write_text(text_format.MessageToString(part))


def select_features(schema: schema_pb2.Schema, names: Collection[str]) -> schema_pb2.Schema:
    """Copy a schema with only the named features and their tensor representations."""
    part = schema_pb2.Schema()
    part.CopyFrom(schema)
    del part.feature[:]
    part.feature.extend(feature for feature in schema.feature if feature.name in names)
    for group in part.tensor_representation_group.values():
        for name in [name for name in group.tensor_representation if name not in names]:
            del group.tensor_representation[name]
    return part
