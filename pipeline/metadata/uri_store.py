"""A connection to the metadata store that stores the URIs of a bucket's folders and returns the paths of their working copies.

So any machine can resolve what any other has stored, and TFX and our code see local paths only.
"""

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message
from ml_metadata.metadata_store import MetadataStore

from serving import bucket


class UriStore(MetadataStore):
    """MLMD's store with all text of its requests and responses translated; other text is unchanged.

    Args:
        connection: The store's connection, which this one takes over.
    """

    def __init__(self, connection: MetadataStore) -> None:
        self.__dict__.update(connection.__dict__)

    def _call_method(self, method_name: str, request: Message, response: Message) -> None:
        translated = type(request)()
        translated.CopyFrom(request)
        translate(translated, bucket.to_uris)
        super()._call_method(method_name, translated, response)
        if any(f"{scheme}://".encode() in response.SerializeToString() for scheme in bucket.SCHEMES):
            translate(response, bucket.to_paths)


def translate(message: Message, function: Callable[[str], str]) -> None:
    """Apply a function to every text in a message, at any depth."""
    for field, value in message.ListFields():
        if field.message_type and field.message_type.GetOptions().map_entry:
            _translate_map(field, value, function)
        elif field.type == field.TYPE_MESSAGE:
            for part in value if field.is_repeated else [value]:
                translate(part, function)
        elif field.type == field.TYPE_STRING and field.is_repeated:
            value[:] = [function(text) for text in value]
        elif field.type == field.TYPE_STRING and (text := function(value)) != value:
            setattr(message, field.name, text)


def _translate_map(field: Any, values: Any, function: Callable[[str], str]) -> None:
    kind = field.message_type.fields_by_name["value"].type
    for key in values:
        if kind == field.TYPE_MESSAGE:
            translate(values[key], function)
        elif kind == field.TYPE_STRING:
            values[key] = function(values[key])
