"""The first answer to a request: what the gateway stores, so that the same request gets the same answer again."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from serving.gateway.log.tf_example import Value, decode

KEY, DIGEST, ANSWER = "served/key", "served/digest", "served/answer"


@dataclass(frozen=True)
class FirstAnswer:
    """The first answer to a request.

    Attributes:
        key: The row's key.
        digest: Hash of the row's content.
        body: The answer as JSON.
    """

    key: str
    digest: str
    body: bytes

    def fields(self) -> dict[str, Value]:
        """Return the fields of the prediction's record that hold the answer; the record has its key already."""
        return {DIGEST: self.digest, ANSWER: self.body}


def hash_key(key: str) -> int:
    """Hash a key to 56 bits; collisions are very rare."""
    return int.from_bytes(blake2b(key.encode(), digest_size=7).digest(), "big")


def hash_content(row: Mapping[str, Any]) -> str:
    """Hash the content of a row, which is plain values."""
    return blake2b(orjson.dumps(row, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def read_first_answer(record: bytes) -> FirstAnswer | None:
    """Return the answer from a prediction's record; None for a record without, as older gateways wrote it."""
    fields = decode(record, (KEY, DIGEST, ANSWER))
    if ANSWER not in fields:
        return None
    (key,), (digest,), (body,) = fields[KEY], fields[DIGEST], fields[ANSWER]
    return FirstAnswer(key.decode(), digest.decode(), body)
