"""What TFDV wrote, read with its messages alone: histograms and top values by split, anomalies, the schema."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from tour.artifacts import charts

BARS, EQUAL = 16, 10  # buckets of a logarithmic scale, and of one that TFDV has cut already
SECONDS = (1e9, 4e9)  # what lies between is a time, in seconds since 1970
TOP = 8
STANDARD, QUANTILES = statistics_pb2.Histogram.STANDARD, statistics_pb2.Histogram.QUANTILES
# A scale is logarithmic where the greatest value is at least this many times the median of the deciles, and at least this.
SKEWED, WIDE = 8.0, 20.0
SPLIT = "Split-"
TYPES = {0: "int", 1: "float", 2: "string", 3: "bytes", 4: "struct"}
Feature: TypeAlias = statistics_pb2.FeatureNameStatistics


def splits(folder: Path) -> list[str]:
    """Names of the splits that have a folder, train before valid before eval, then by name."""
    known = ("train", "valid", "eval")
    found = [path.name.removeprefix(SPLIT) for path in folder.glob(f"{SPLIT}*") if path.is_dir()]
    return sorted(found, key=lambda name: (known.index(name) if name in known else len(known), name))


def read(folder: Path) -> dict[str, statistics_pb2.DatasetFeatureStatistics]:
    """The statistics of each split."""
    found: dict[str, statistics_pb2.DatasetFeatureStatistics] = {}
    for split in splits(folder):
        path = folder / f"{SPLIT}{split}" / "FeatureStats.pb"
        if path.is_file():
            whole = statistics_pb2.DatasetFeatureStatisticsList.FromString(path.read_bytes())
            found |= {split: whole.datasets[0]} if whole.datasets else {}
    return found


def features(held: Mapping[str, statistics_pb2.DatasetFeatureStatistics]) -> list[dict[str, Any]]:
    """Every feature: its numbers by split, and one drawing that lays the splits side by side."""
    by_name: dict[str, dict[str, Feature]] = {}
    for split, one in held.items():
        for feature in one.features:
            by_name.setdefault(_name(feature), {})[split] = feature
    return [_feature(name, found) for name, found in sorted(by_name.items())]


def anomalies(folder: Path) -> list[dict[str, str]]:
    """What differs from the schema, a line each: split, feature, in short and in full."""
    found = []
    for split in splits(folder):
        path = folder / f"{SPLIT}{split}" / "SchemaDiff.pb"
        told = anomalies_pb2.Anomalies.FromString(path.read_bytes()) if path.is_file() else anomalies_pb2.Anomalies()
        for name, one in sorted(told.anomaly_info.items()):
            found.append({"split": split, "feature": name, "short": one.short_description, "full": one.description})
    return found


def schema(path: Path) -> list[dict[str, str]]:
    """A schema's features with what may be in them, in words."""
    told = text_format.Parse(path.read_text(), schema_pb2.Schema())
    domains = {
        one.name: ", ".join(one.value[:12]) + (" …" if len(one.value) > 12 else "") for one in told.string_domain
    }
    return [
        {
            "name": one.name,
            "type": schema_pb2.FeatureType.Name(one.type).lower(),
            "shape": _shape(one),
            "values": _values(one, domains),
            "presence": f"{one.presence.min_fraction:.0%}" if one.HasField("presence") else "",
        }
        for one in told.feature
    ]


def _feature(name: str, found: Mapping[str, Feature]) -> dict[str, Any]:
    first = next(iter(found.values()))
    numeric = first.HasField("num_stats")
    series, labels = _numbers(found) if numeric else _words(found)
    rows = [
        {"split": split, "missing": _missing(one), **(_num(one) if numeric else {"unique": one.string_stats.unique})}
        for split, one in found.items()
    ]
    kind = TYPES.get(first.type, "")
    ends = (labels[0].partition(" to ")[0], labels[-1].rpartition(" to ")[2]) if numeric and labels else ("", "")
    drawn = charts.bars(f"{name}: share of rows by value and split", series, labels) if labels else ""
    return {
        "name": name,
        "type": kind,
        "numeric": numeric,
        "chart": drawn,
        "ends": ends,
        "rows": rows,
        "tops": labels[:4],
    }


def _numbers(found: Mapping[str, Feature]) -> tuple[dict[str, list[float]], list[str]]:
    """Shares of each split in common buckets; where values spread over decades, buckets grow with them."""
    held = {split: one.num_stats.histograms for split, one in found.items() if one.num_stats.histograms}
    places = _places(_buckets(one, QUANTILES) for one in held.values())
    if not places:
        return {}, []
    low, high = min(places), max(places)
    wide = low >= 0 and high > max(SKEWED * float(np.median(places)), WIDE)
    spread = {split: _buckets(one, QUANTILES if wide else STANDARD) for split, one in held.items()}
    scale, back = (np.log1p, np.expm1) if wide else (np.asarray, np.asarray)
    bars = BARS if wide else EQUAL
    edges = np.linspace(scale(low), scale(high), bars + 1) if high > low else np.array([low - 0.5, low + 0.5])
    ends = [_said(float(one), SECONDS[0] < low < high < SECONDS[1]) for one in back(edges)]
    labels = [f"{a} to {b}" for a, b in zip(ends, ends[1:], strict=False)]
    return {split: _shares(buckets, edges, scale) for split, buckets in spread.items()}, labels


def _said(value: float, time: bool) -> str:
    return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d") if time else charts.said(float(f"{value:.3g}"))


def _shares(buckets: Sequence[Any], edges: np.ndarray, scale: Callable[[Any], Any]) -> list[float]:
    """The share of a histogram's rows in each new bucket, the rows of an old one spread evenly over it."""
    out, total = np.zeros(len(edges) - 1), sum(one.sample_count for one in buckets) or 1.0
    for one in buckets:
        low, high = float(scale(one.low_value)), float(scale(one.high_value))
        if high <= low:
            out[min(max(int(np.searchsorted(edges, low, side="right")) - 1, 0), len(out) - 1)] += one.sample_count
            continue
        part = np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None)
        out += one.sample_count * part / (high - low)
    return (out / total).tolist()


def _buckets(histograms: Iterable[Any], kind: int) -> Sequence[Any]:
    """The histogram of that kind, else whichever there is."""
    held = sorted((one for one in histograms if one.buckets), key=lambda one: one.type != kind)
    return [one for one in held[0].buckets if np.isfinite([one.low_value, one.high_value]).all()] if held else []


def _places(held: Iterable[Sequence[Any]]) -> list[float]:
    return [end for buckets in held for one in buckets for end in (one.low_value, one.high_value)]


def _words(found: Mapping[str, Feature]) -> tuple[dict[str, list[float]], list[str]]:
    ranks = {
        split: {b.label: b.sample_count for b in one.string_stats.rank_histogram.buckets}
        for split, one in found.items()
    }
    totals: dict[str, float] = {}
    for one in ranks.values():
        for label, count in one.items():
            totals[label] = totals.get(label, 0.0) + count
    labels = sorted(totals, key=lambda label: (-totals[label], label))[:TOP]
    whole = {split: one.string_stats.common_stats.num_non_missing or 1 for split, one in found.items()}
    return {split: [ranks[split].get(label, 0.0) / whole[split] for label in labels] for split in found}, labels


def _num(one: Feature) -> dict[str, float]:
    held = one.num_stats
    return {
        "mean": held.mean,
        "deviation": held.std_dev,
        "least": held.min,
        "greatest": held.max,
        "zeros": held.num_zeros / max(held.common_stats.num_non_missing, 1),
    }


def _missing(one: Feature) -> float:
    common = getattr(one, one.WhichOneof("stats") or "num_stats").common_stats
    return common.num_missing / max(common.num_missing + common.num_non_missing, 1)


def _name(feature: Feature) -> str:
    return feature.name or ".".join(feature.path.step)


def _shape(one: Any) -> str:
    return f"[{', '.join(str(dim.size) for dim in one.shape.dim)}]" if one.HasField("shape") else ""


def _values(one: Any, domains: Mapping[str, str]) -> str:
    if one.domain:
        return domains.get(one.domain, "")
    for kind in ("int_domain", "float_domain"):
        if one.HasField(kind):
            domain = getattr(one, kind)
            ends = [(end, word) for end, word in (("min", "from"), ("max", "to")) if domain.HasField(end)]
            return " ".join(f"{word} {getattr(domain, end):g}" for end, word in ends)
    return ", ".join(one.string_domain.value[:12]) if one.HasField("string_domain") else ""
