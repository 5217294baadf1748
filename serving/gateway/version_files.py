"""What lies beside a served version and the gateway needs: operating point, settings, and what is typical."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

EXTRA = "assets.extra"


@dataclass(frozen=True)
class Served:
    """A version's own files.

    Attributes:
        point: The operating point, such as a threshold; empty where it is not known.
        settings: What the version was trained with.
        typical: Of each raw feature of the evaluation split the median, or the commonest word; empty where it is not known.
    """

    point: Mapping[str, float]
    settings: Mapping[str, Any]
    typical: Mapping[str, float | str]


@lru_cache(maxsize=64)
def served(folder: Path, version: int) -> Served:
    """The files of a version under a folder of versions; all empty where the gateway does not see them."""
    extra = folder / str(version) / EXTRA
    try:
        told = json.loads((extra / "model.json").read_text())
    except (OSError, ValueError):
        told = {}
    return Served(told.get("operating_point", {}), told.get("settings", {}), _typical(extra / "profile.pb"))


def _typical(path: Path) -> dict[str, float | str]:
    # Only for this: the message is large, and a gateway without a profile does not need it.
    from tensorflow_metadata.proto.v0 import statistics_pb2

    try:
        profile = statistics_pb2.DatasetFeatureStatisticsList.FromString(path.read_bytes())
    except OSError:
        return {}
    found: dict[str, float | str] = {}
    for feature in profile.datasets[0].features:
        name = ".".join(feature.path.step) or feature.name
        if feature.HasField("num_stats"):
            found[name] = feature.num_stats.median
        elif feature.string_stats.top_values:
            found[name] = feature.string_stats.top_values[0].value
    return found
