"""The part of a prediction's record that says what was answered."""

import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from serving.gateway.backend import Answered
from serving.gateway.log.tf_example import entry, text

# Few values, again and again.
_common = lru_cache(1024)(entry)


def scored(identity: str, key: str, answered: Answered, arm: str, told: Mapping[str, Any], trace: str) -> bytes:
    """Entries of a record beside the features: who answered what, when, and what a late label joins by."""
    parts = [
        text("served/id", identity.encode()),
        text("served/key", key.encode()),
        entry("served/time", time.time_ns() // 1000),
        _common("served/version", answered.version),
        _common("served/arm", arm),
        entry("served/score", told["score"]),
        _common("served/decision", told["decision"]),
        text("served/trace", trace.encode()) if trace else b"",
    ]
    for name, rows in answered.outputs.items():
        parts.append(entry(f"output/{name}", rows[0].tolist()))
    return b"".join(parts)
