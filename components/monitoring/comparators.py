"""TFDV's own comparators, beside ours, since their numbers are known to many: skew against eval, drift between windows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tfx.types.artifact import Artifact

from serving.drift.alarms.judge import Judged
from serving.drift.reference import reference_profile as normals
from serving.gateway.version_files import EXTRA

# What TFDV alarms at here; our own alarm needs none of these.
LEAST = 0.02
PROFILE = "profile.pb"


def compared(statistics: Artifact, judged: Sequence[Judged], versions: Path) -> dict[str, list[Any]]:
    """By window: each watched feature's skew against the version's eval split, and drift against the window before."""
    found, before = {}, None
    for one in judged:
        now = _read(Path(statistics.uri, f"Split-window-{one.window}", "FeatureStats.pb"))
        if one.version:
            usual = _read(versions / str(one.version) / EXTRA / PROFILE)
            features = normals.of_version(versions, one.version).watched.features
            found[str(one.window)] = measures(usual, now, before, features)
        before = now
    return found


def measures(usual: Any, now: Any, before: Any | None, features: Sequence[str]) -> list[dict[str, Any]]:
    """Feature, which comparator, which measure and its value."""
    import tensorflow_data_validation as tfdv

    schema = _schema(now, features)
    skew = tfdv.validate_statistics(usual, schema, serving_statistics=now)
    drift = tfdv.validate_statistics(now, schema, previous_statistics=before) if before else None
    return [
        {
            "feature": ".".join(info.path.step),
            "comparator": name,
            "measure": measure.Type.Name(measure.type).lower(),
            "value": measure.value,
            "above": measure.value > LEAST,
        }
        for name, anomalies in (("skew", skew), ("drift", drift))
        if anomalies is not None
        for info in anomalies.drift_skew_info
        for measure in getattr(info, f"{name}_measurements")
    ]


def _schema(now: Any, features: Sequence[str]) -> schema_pb2.Schema:
    """Numbers by Jensen–Shannon over quantiles, since equal widths follow one outlier; names by their largest change."""
    schema = schema_pb2.Schema()
    kinds = {".".join(one.path.step): one for one in now.datasets[0].features}
    for name in (name for name in features if name in kinds):
        feature = schema.feature.add(name=name)
        numeric = kinds[name].HasField("num_stats")
        feature.type = schema_pb2.FLOAT if numeric else schema_pb2.BYTES
        for comparator in (feature.skew_comparator, feature.drift_comparator):
            if numeric:
                comparator.jensen_shannon_divergence.threshold = LEAST
                comparator.jensen_shannon_divergence.source.type = schema_pb2.HistogramSelection.QUANTILES
            else:
                comparator.infinity_norm.threshold = LEAST
    return schema


def _read(path: Path) -> Any:
    return statistics_pb2.DatasetFeatureStatisticsList.FromString(path.read_bytes())
