"""The files exported with a served version that the gateway needs: operating point, settings and typical values."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from serving import bucket_folders

EXTRA = "assets.extra"


@dataclass(frozen=True)
class VersionFiles:
    """Contents of a version's ``assets.extra`` folder.

    Attributes:
        point: The operating point, such as a decision threshold; empty if unknown.
        settings: Settings of the training run.
        typical: Median or most frequent text of each raw feature in the evaluation split; empty if unknown.
    """

    point: Mapping[str, float]
    settings: Mapping[str, Any]
    typical: Mapping[str, float | str]


@lru_cache(maxsize=64)
def read_version_files(folder: Path, version: int) -> VersionFiles:
    """Read the files of a version from the folder of versions; all fields are empty if the gateway cannot read them."""
    bucket_folders.pull(folder / str(version))  # where another machine serves the model
    extra = folder / str(version) / EXTRA
    try:
        description = json.loads((extra / "model.json").read_text())
    except (OSError, ValueError):
        description = {}
    return VersionFiles(
        description.get("operating_point", {}), description.get("settings", {}), _read_typical(extra / "profile.pb")
    )


def _read_typical(path: Path) -> dict[str, float | str]:
    # Imported here because the message is large, and a gateway without a profile does not need it.
    from tensorflow_metadata.proto.v0 import statistics_pb2

    try:
        profile = statistics_pb2.DatasetFeatureStatisticsList.FromString(path.read_bytes())
    except OSError:
        return {}
    typical: dict[str, float | str] = {}
    for feature in profile.datasets[0].features:
        name = ".".join(feature.path.step) or feature.name
        if feature.HasField("num_stats"):
            typical[name] = feature.num_stats.median
        elif feature.string_stats.top_values:
            typical[name] = feature.string_stats.top_values[0].value
    return typical
