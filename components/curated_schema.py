"""The schema that people keep, as an artifact of the run."""

from pathlib import Path

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Schema


@component
def CuratedSchema(path: Parameter[str], text: Parameter[str], schema: OutputArtifact[Schema]):
    """Writes the curated schema; its text is a parameter, so that an edit is seen by the cache.

    Raises:
        ValueError: if the text is no schema, with the line.
    """
    try:
        parsed = text_format.Parse(text, schema_pb2.Schema())
    except text_format.ParseError as error:
        raise ValueError(f"{path} is not a schema: {error}.") from error
    Path(schema.uri, "schema.pbtxt").write_text(text_format.MessageToString(parsed))
