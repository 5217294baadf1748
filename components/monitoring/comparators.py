"""TFDV's skew and drift comparators, reported next to ours because many readers know their numbers.

Skew compares a window with the eval split, drift with the window before.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tfx.types.artifact import Artifact

from serving.drift.alarms.judge import WindowResult
from serving.drift.reference import reference_profile
from serving.gateway.version_files import EXTRA

# TFDV's alarm threshold here; our own alarm does not use it.
THRESHOLD = 0.02
PROFILE = "profile.pb"


def compare_windows(statistics: Artifact, judged: Sequence[WindowResult], versions: Path) -> dict[str, list[Any]]:
    """Compare each window: every watched feature's skew against the version's eval split, drift against the last window."""
    measured, previous = {}, None
    for verdict in judged:
        current = _read(Path(statistics.uri, f"Split-window-{verdict.window}", "FeatureStats.pb"))
        if verdict.version:
            reference = _read(versions / str(verdict.version) / EXTRA / PROFILE)
            features = reference_profile.load_version(versions, verdict.version).watched.features
            measured[str(verdict.window)] = compare_statistics(reference, current, previous, features)
        previous = current
    return measured


def compare_statistics(
    reference: Any, current: Any, previous: Any | None, features: Sequence[str]
) -> list[dict[str, Any]]:
    """Return a dict a feature and comparator: the measure, its value and whether it is above the threshold."""
    import tensorflow_data_validation as tfdv

    schema = _schema(current, features)
    skew = tfdv.validate_statistics(reference, schema, serving_statistics=current)
    drift = tfdv.validate_statistics(current, schema, previous_statistics=previous) if previous else None
    return [
        {
            "feature": ".".join(info.path.step),
            "comparator": name,
            "measure": measure.Type.Name(measure.type).lower(),
            "value": measure.value,
            "above": measure.value > THRESHOLD,
        }
        for name, anomalies in (("skew", skew), ("drift", drift))
        if anomalies is not None
        for info in anomalies.drift_skew_info
        for measure in getattr(info, f"{name}_measurements")
    ]


def _schema(statistics: Any, features: Sequence[str]) -> schema_pb2.Schema:
    """Build the comparators' schema: Jensen–Shannon divergence for numbers, L-infinity for categories.

    Numbers are compared over quantiles, since one outlier would stretch bins of equal width.
    """
    schema = schema_pb2.Schema()
    described = {".".join(feature.path.step): feature for feature in statistics.datasets[0].features}
    for name in (name for name in features if name in described):
        feature = schema.feature.add(name=name)
        numeric = described[name].HasField("num_stats")
        feature.type = schema_pb2.FLOAT if numeric else schema_pb2.BYTES
        for comparator in (feature.skew_comparator, feature.drift_comparator):
            if numeric:
                comparator.jensen_shannon_divergence.threshold = THRESHOLD
                comparator.jensen_shannon_divergence.source.type = schema_pb2.HistogramSelection.QUANTILES
            else:
                comparator.infinity_norm.threshold = THRESHOLD
    return schema


def _read(path: Path) -> Any:
    return statistics_pb2.DatasetFeatureStatisticsList.FromString(path.read_bytes())
