"""Read the artifacts of TFDV by their protobufs alone: histograms and top values by split, anomalies, schemas."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from tour import charts

BARS, EQUAL = 16, 10  # number of buckets of a logarithmic and of a linear scale
SECONDS = (1e9, 4e9)  # values in this range are shown as dates, as seconds since 1970
TOP = 8
STANDARD, QUANTILES = statistics_pb2.Histogram.STANDARD, statistics_pb2.Histogram.QUANTILES
# A scale is logarithmic if the maximum exceeds this multiple of the median of the deciles, and this absolute value.
SKEWED, WIDE = 8.0, 20.0
SPLIT = "Split-"
TYPES = {0: "int", 1: "float", 2: "string", 3: "bytes", 4: "struct"}
Feature: TypeAlias = statistics_pb2.FeatureNameStatistics


def splits(folder: Path) -> list[str]:
    """Names of the splits that have a folder: train, valid, eval, then the others by name."""
    order = ("train", "valid", "eval")
    names = [path.name.removeprefix(SPLIT) for path in folder.glob(f"{SPLIT}*") if path.is_dir()]
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))


def read_statistics(folder: Path) -> dict[str, statistics_pb2.DatasetFeatureStatistics]:
    statistics: dict[str, statistics_pb2.DatasetFeatureStatistics] = {}
    for split in splits(folder):
        path = folder / f"{SPLIT}{split}" / "FeatureStats.pb"
        if path.is_file():
            dataset_list = statistics_pb2.DatasetFeatureStatisticsList.FromString(path.read_bytes())
            statistics |= {split: dataset_list.datasets[0]} if dataset_list.datasets else {}
    return statistics


def features(statistics: Mapping[str, statistics_pb2.DatasetFeatureStatistics]) -> list[dict[str, Any]]:
    """Every feature with its statistics by split, and one chart that compares the splits."""
    by_name: dict[str, dict[str, Feature]] = {}
    for split, dataset in statistics.items():
        for feature in dataset.features:
            by_name.setdefault(_feature_name(feature), {})[split] = feature
    return [_describe_feature(name, by_split) for name, by_split in sorted(by_name.items())]


def anomalies(folder: Path) -> list[dict[str, str]]:
    """Anomalies against the schema: split, feature, short and full description of each."""
    rows = []
    for split in splits(folder):
        path = folder / f"{SPLIT}{split}" / "SchemaDiff.pb"
        anomaly_list = (
            anomalies_pb2.Anomalies.FromString(path.read_bytes()) if path.is_file() else anomalies_pb2.Anomalies()
        )
        for name, info in sorted(anomaly_list.anomaly_info.items()):
            rows.append({"split": split, "feature": name, "short": info.short_description, "full": info.description})
    return rows


def schema(path: Path) -> list[dict[str, str]]:
    """Features of a schema, with type, shape, domain and required presence as text."""
    parsed = text_format.Parse(path.read_text(), schema_pb2.Schema())
    domains = {
        domain.name: ", ".join(domain.value[:12]) + (" …" if len(domain.value) > 12 else "")
        for domain in parsed.string_domain
    }
    return [
        {
            "name": feature.name,
            "type": schema_pb2.FeatureType.Name(feature.type).lower(),
            "shape": _describe_shape(feature),
            "values": _describe_domain(feature, domains),
            "presence": f"{feature.presence.min_fraction:.0%}" if feature.HasField("presence") else "",
        }
        for feature in parsed.feature
    ]


def _describe_feature(name: str, by_split: Mapping[str, Feature]) -> dict[str, Any]:
    first = next(iter(by_split.values()))
    numeric = first.HasField("num_stats")
    series, labels = _numbers(by_split) if numeric else _count_values(by_split)
    rows = [
        {
            "split": split,
            "missing": _missing_share(feature),
            **(_number_facts(feature) if numeric else {"unique": feature.string_stats.unique}),
        }
        for split, feature in by_split.items()
    ]
    kind = TYPES.get(first.type, "")
    ends = (labels[0].partition(" to ")[0], labels[-1].rpartition(" to ")[2]) if numeric and labels else ("", "")
    chart = charts.bar_chart(f"{name}: share of rows by value and split", series, labels) if labels else ""
    return {
        "name": name,
        "type": kind,
        "numeric": numeric,
        "chart": chart,
        "ends": ends,
        "rows": rows,
        "tops": labels[:4],
    }


def _numbers(by_split: Mapping[str, Feature]) -> tuple[dict[str, list[float]], list[str]]:
    """Shares of each split in common buckets; logarithmic buckets if the values span orders of magnitude."""
    histograms = {
        split: feature.num_stats.histograms for split, feature in by_split.items() if feature.num_stats.histograms
    }
    bucket_ends = _bucket_ends(_select_buckets(group, QUANTILES) for group in histograms.values())
    if not bucket_ends:
        return {}, []
    low, high = min(bucket_ends), max(bucket_ends)
    logarithmic = low >= 0 and high > max(SKEWED * float(np.median(bucket_ends)), WIDE)
    split_buckets = {
        split: _select_buckets(group, QUANTILES if logarithmic else STANDARD) for split, group in histograms.items()
    }
    scale, inverse = (np.log1p, np.expm1) if logarithmic else (np.asarray, np.asarray)
    bars = BARS if logarithmic else EQUAL
    edges = np.linspace(scale(low), scale(high), bars + 1) if high > low else np.array([low - 0.5, low + 0.5])
    ends = [_format_end(float(edge), SECONDS[0] < low < high < SECONDS[1]) for edge in inverse(edges)]
    labels = [f"{a} to {b}" for a, b in zip(ends, ends[1:], strict=False)]
    return {split: _rebin(buckets, edges, scale) for split, buckets in split_buckets.items()}, labels


def _format_end(value: float, time: bool) -> str:
    return (
        datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d") if time else charts.format_number(float(f"{value:.3g}"))
    )


def _rebin(buckets: Sequence[Any], edges: np.ndarray, scale: Callable[[Any], Any]) -> list[float]:
    """Share of the rows in each new bucket; the rows of an old bucket are spread evenly over it."""
    counts, total = np.zeros(len(edges) - 1), sum(bucket.sample_count for bucket in buckets) or 1.0
    for bucket in buckets:
        low, high = float(scale(bucket.low_value)), float(scale(bucket.high_value))
        if high <= low:
            counts[min(max(int(np.searchsorted(edges, low, side="right")) - 1, 0), len(counts) - 1)] += (
                bucket.sample_count
            )
            continue
        overlap = np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None)
        counts += bucket.sample_count * overlap / (high - low)
    return (counts / total).tolist()


def _select_buckets(histograms: Iterable[Any], kind: int) -> Sequence[Any]:
    """Finite buckets of the histogram of the given type, or of any type if there is none."""
    candidates = sorted((item for item in histograms if item.buckets), key=lambda item: item.type != kind)
    if not candidates:
        return []
    return [bucket for bucket in candidates[0].buckets if np.isfinite([bucket.low_value, bucket.high_value]).all()]


def _bucket_ends(histograms: Iterable[Sequence[Any]]) -> list[float]:
    return [end for buckets in histograms for bucket in buckets for end in (bucket.low_value, bucket.high_value)]


def _count_values(by_split: Mapping[str, Feature]) -> tuple[dict[str, list[float]], list[str]]:
    """Shares of the most frequent values in each split."""
    counts = {
        split: {bucket.label: bucket.sample_count for bucket in feature.string_stats.rank_histogram.buckets}
        for split, feature in by_split.items()
    }
    totals: dict[str, float] = {}
    for split_counts in counts.values():
        for label, count in split_counts.items():
            totals[label] = totals.get(label, 0.0) + count
    labels = sorted(totals, key=lambda label: (-totals[label], label))[:TOP]
    rows = {split: feature.string_stats.common_stats.num_non_missing or 1 for split, feature in by_split.items()}
    return {split: [counts[split].get(label, 0.0) / rows[split] for label in labels] for split in by_split}, labels


def _number_facts(feature: Feature) -> dict[str, float]:
    stats = feature.num_stats
    return {
        "mean": stats.mean,
        "deviation": stats.std_dev,
        "least": stats.min,
        "greatest": stats.max,
        "zeros": stats.num_zeros / max(stats.common_stats.num_non_missing, 1),
    }


def _missing_share(feature: Feature) -> float:
    common = getattr(feature, feature.WhichOneof("stats") or "num_stats").common_stats
    return common.num_missing / max(common.num_missing + common.num_non_missing, 1)


def _feature_name(feature: Feature) -> str:
    return feature.name or ".".join(feature.path.step)


def _describe_shape(feature: Any) -> str:
    return f"[{', '.join(str(dim.size) for dim in feature.shape.dim)}]" if feature.HasField("shape") else ""


def _describe_domain(feature: Any, domains: Mapping[str, str]) -> str:
    if feature.domain:
        return domains.get(feature.domain, "")
    for kind in ("int_domain", "float_domain"):
        if feature.HasField(kind):
            domain = getattr(feature, kind)
            ends = [(end, word) for end, word in (("min", "from"), ("max", "to")) if domain.HasField(end)]
            return " ".join(f"{word} {getattr(domain, end):g}" for end, word in ends)
    return ", ".join(feature.string_domain.value[:12]) if feature.HasField("string_domain") else ""
