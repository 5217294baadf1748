"""Model metadata as TensorFlow Serving's ``GetModelMetadataResponse``."""

from typing import Any

from serving.server.loading.servable import Servable

FIELD = "signature_def"


def build_response(servable: Servable) -> Any:
    """Build the ``GetModelMetadataResponse`` with a version's signatures."""
    from tensorflow_serving.apis import get_model_metadata_pb2

    message = get_model_metadata_pb2.GetModelMetadataResponse()
    message.model_spec.name = servable.name
    message.model_spec.version.value = servable.version
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in servable.meta.signature_def.items():
        signatures.signature_def[name].CopyFrom(definition)
    message.metadata[FIELD].Pack(signatures)
    return message
