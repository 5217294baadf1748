"""``model_raw.tflite``: a version's ``raw`` signature for LiteRT, and the record of the gate that passed it.

A server or device answers raw rows by this file only if the record in the version names the file's content; so a file that
was changed, copied from elsewhere or refused is never used. :func:`read_passed` is that rule.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SIGNATURE = "raw"
FILE = "model_raw.tflite"
RECORD = Path("assets.extra", "lite.json")  # what the gate measured of all LiteRT files of the version


def make_record(content: bytes, measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return the gate's record of a file that passed: what it measured, and the content's size and hash."""
    return {**measured, "bytes": len(content), "sha256": _hash(content)}


def read_passed(version: Path) -> bytes | None:
    """Return the file of a version folder if the gate has passed it, None otherwise."""
    try:
        content, record = (version / FILE).read_bytes(), json.loads((version / RECORD).read_bytes())
    except (OSError, ValueError):
        return None
    passed = record.get(SIGNATURE) if isinstance(record, dict) else None
    return content if isinstance(passed, dict) and passed.get("sha256") == _hash(content) else None


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
