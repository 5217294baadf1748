"""The first answer to a request: what the gateway stores, so that the same request gets the same answer again."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from serving.gateway.log.tf_example import Value, decode

KEY, REQUEST, DIGEST, ANSWER = "served/key", "served/request", "served/digest", "served/answer"
READ = (KEY, REQUEST, DIGEST, ANSWER)


@dataclass(frozen=True)
class FirstAnswer:
    """The first answer to a request.

    Attributes:
        request_id: The id under which the client may repeat the request; empty if it gave none.
        digest: Hash of the row's content.
        body: The answer as JSON.
    """

    request_id: str
    digest: str
    body: bytes

    def fields(self, key: str) -> dict[str, Value]:
        """Return the fields that the record of a row with this key needs to repeat the answer."""
        if not self.request_id:
            return {}
        named = {} if self.request_id == key else {REQUEST: self.request_id}
        return {**named, DIGEST: self.digest, ANSWER: self.body}


def hash_key(key: str) -> int:
    """Hash a key to 56 bits; collisions are very rare."""
    return int.from_bytes(blake2b(key.encode(), digest_size=7).digest(), "big")


def hash_content(row: Mapping[str, Any]) -> str:
    """Hash the content of a row, which is plain values and bytes."""
    return blake2b(orjson.dumps(row, _hash_bytes, orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def _hash_bytes(value: Any) -> str:
    if not isinstance(value, bytes):
        raise TypeError(f"A row holds a {type(value).__name__}; only plain values and bytes can be hashed.")
    return blake2b(value, digest_size=16).hexdigest()


def read_request_id(record: bytes) -> str:
    """Return the id under which a prediction's request may be repeated; empty for none, as older gateways wrote it."""
    return _request_id(decode(record, (KEY, REQUEST, DIGEST)))


def _request_id(fields: Mapping[str, list[Any]]) -> str:
    return fields.get(REQUEST, fields[KEY])[0].decode() if DIGEST in fields else ""


def read_first_answer(record: bytes) -> FirstAnswer | None:
    """Return the answer from a prediction's record; None for a record without, as older gateways wrote it."""
    fields = decode(record, READ)
    if ANSWER not in fields:
        return None
    (digest,), (body,) = fields[DIGEST], fields[ANSWER]
    return FirstAnswer(_request_id(fields), digest.decode(), body)
