"""What came of a run, in one sentence: what was pushed and why, or which gate refused what."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow_model_analysis as tfma

from pipeline.metadata import store
from pipeline.plan import Plan
from pipeline.progress import Progress
from pipeline.runtime import Runtime


def of(runtime: Runtime, run_id: str, progress: Mapping[str, Progress], plan: Plan) -> tuple[str, str, dict[str, str]]:
    """State, reason and facts of a run whose stages have ended."""
    for state in ("refused", "failed"):
        for name, stage in progress.items():
            if stage.state == state:
                return state, f"{name}: {stage.message}", {}
    outputs = store.outputs(runtime.metadata, run_id)
    evaluation = Path(outputs["Evaluator"]["evaluation"].uri)
    metrics = overall(evaluation)
    facts = {"metrics": json.dumps(metrics), "headline": f"{plan.case.headline} {metrics[plan.case.headline]:.4f}"}
    facts["slices"] = json.dumps(by_slice(evaluation, plan.case.headline))
    facts["comparison"] = comparison(Path(outputs["Baseline"]["comparison"].uri, "comparison.json"))
    pushed = outputs["Pusher"]["pushed_model"].custom_properties
    if not pushed["pushed"].int_value:
        return "refused", "Evaluator: " + "; ".join(failures(evaluation)), facts
    facts |= {"pushed": pushed["pushed_destination"].string_value, "version": pushed["pushed_version"].string_value}
    return "pushed", f"version {facts['version']} with {facts['headline']}, blessed within {kept(plan)}", facts


def overall(evaluation: Path) -> dict[str, float]:
    """The candidate's metrics over the whole eval split."""
    slices = tfma.load_eval_result(str(evaluation)).slicing_metrics
    found: dict[str, float] = {}
    for key, by_output in slices:
        for by_class in by_output.values() if key == () else []:
            for metrics in by_class.values():
                found |= {name: value["doubleValue"] for name, value in metrics.items() if "doubleValue" in value}
    return found


def by_slice(evaluation: Path, metric: str) -> dict[str, float]:
    """One metric of the candidate over every slice but the whole, by the slice's name."""
    found: dict[str, float] = {}
    for key, by_output in tfma.load_eval_result(str(evaluation)).slicing_metrics:
        for by_class in by_output.values() if key else []:
            values = [one[metric]["doubleValue"] for one in by_class.values() if "doubleValue" in one.get(metric, {})]
            found |= {"/".join(f"{column} {value}" for column, value in key): value for value in values[:1]}
    return found


def comparison(path: Path) -> str:
    """The network beside the baselines on the same rows, the best first, in one line that names the winner."""
    found = json.loads(path.read_text())
    rows, ahead = sorted(found["rows"], key=lambda row: -row["metric"]), found["ahead"]
    values = ", ".join(f"{row['model']} {row['metric']:.4f}" for row in rows)
    return f"{found['metric']}: {values}; the network is {_against(ahead, found['level'])}"


def _against(ahead: Mapping[str, Any], level: float) -> str:
    """Who leads by how much, and the interval of that, both counted towards the leader."""
    (low, high), value = ahead["interval"], ahead["value"]
    if value < 0:
        low, high = -high, -low
    by = f"by {abs(value):.4f}{', within chance' if low <= 0 <= high else ''}"
    side = f"ahead of {ahead['over']} {by}" if value > 0 else f"behind {ahead['over']} {by}"
    return f"{side if value else 'level with ' + ahead['over']} ({level:.0%} interval {low:.4f} to {high:.4f})"


def failures(evaluation: Path) -> list[str]:
    """Every bound that was missed: metric, slice, value and threshold."""
    result = tfma.load_validation_result(str(evaluation))
    lines = [
        f"{one.metric_key.name} of {_slice(by_slice.slice_key)} {_missed(one)}"
        for by_slice in result.metric_validations_per_slice
        for one in by_slice.failures
    ]
    return lines or ["the evaluation has no result for a bound"]


def kept(plan: Plan) -> str:
    """The bounds that a pushed model kept."""
    bounds = {name: value for name, value in plan.settings["gates"].items() if name.startswith(("min_", "max_"))}
    return ", ".join(f"{name} {value:g}" for name, value in bounds.items())


def _slice(key: Any) -> str:
    parts = [
        f"{one.column} {(one.bytes_value.decode() or one.float_value or one.int64_value)}"
        for one in key.single_slice_keys
    ]
    return " and ".join(parts) or "the whole eval split"


def _missed(failure: Any) -> str:
    value, threshold = failure.metric_value.double_value.value, failure.metric_threshold
    if failure.metric_key.is_diff:
        allowed = -threshold.change_threshold.absolute.value
        return f"is {-value:.4f} below the blessed model's, and at most {allowed:g} is allowed"
    return f"is {value:.4f}, and has to be at least {threshold.value_threshold.lower_bound.value:g}"
