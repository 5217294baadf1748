"""The part of a prediction's log record that describes the answer."""

import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from serving.gateway.backend import PredictResult
from serving.gateway.log.tf_example import encode_entry, encode_text

# These fields take few distinct values, so their encodings are cached.
_cached_entry = lru_cache(1024)(encode_entry)


def encode_prediction(
    identity: str, key: str, result: PredictResult, arm: str, answer: Mapping[str, Any], trace: str
) -> bytes:
    """Encode the entries that follow the features: id, key for late labels, time, version, arm, answer and outputs."""
    parts = [
        encode_text("served/id", identity.encode()),
        encode_text("served/key", key.encode()),
        encode_entry("served/time", time.time_ns() // 1000),
        _cached_entry("served/version", result.version),
        _cached_entry("served/arm", arm),
        encode_entry("served/score", answer["score"]),
        _cached_entry("served/decision", answer["decision"]),
        encode_text("served/trace", trace.encode()) if trace else b"",
    ]
    for name, rows in result.outputs.items():
        parts.append(encode_entry(f"output/{name}", rows[0].tolist()))
    return b"".join(parts)
