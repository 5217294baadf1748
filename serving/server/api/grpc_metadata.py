"""What a version says of itself, as TensorFlow Serving's message."""

from typing import Any

from serving.server.loading.servable import Servable

FIELD = "signature_def"


def response(servable: Servable) -> Any:
    """A ``GetModelMetadataResponse`` with the signatures."""
    from tensorflow_serving.apis import get_model_metadata_pb2

    found = get_model_metadata_pb2.GetModelMetadataResponse()
    found.model_spec.name = servable.name
    found.model_spec.version.value = servable.version
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in servable.meta.signature_def.items():
        signatures.signature_def[name].CopyFrom(definition)
    found.metadata[FIELD].Pack(signatures)
    return found
