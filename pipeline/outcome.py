"""Summarise the outcome of a run in one sentence: what was pushed and why, or which gate refused it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow_model_analysis as tfma

from pipeline.local.progress import Progress
from pipeline.metadata import store
from pipeline.plan import Plan
from pipeline.runtime import Runtime
from serving import bucket_folders


def summarize_outcome(
    runtime: Runtime, run_id: str, progress: Mapping[str, Progress], plan: Plan
) -> tuple[str, str, dict[str, str]]:
    """Return state, reason and facts of a run whose stages have ended."""
    for state in ("refused", "failed"):
        for name, stage in progress.items():
            if stage.state == state:
                return state, f"{name}: {stage.message}", {}
    outputs = store.outputs(runtime.metadata, run_id)
    evaluation, comparison = (
        Path(outputs[stage][key].uri) for stage, key in (("Evaluator", "evaluation"), ("Baseline", "comparison"))
    )
    for folder in (evaluation, comparison):
        bucket_folders.pull(folder)
    metrics = overall_metrics(evaluation)
    facts = {"metrics": json.dumps(metrics), "headline": f"{plan.case.headline} {metrics[plan.case.headline]:.4f}"}
    facts["slices"] = json.dumps(metric_by_slice(evaluation, plan.case.headline))
    facts["comparison"] = describe_comparison(comparison / "comparison.json")
    pushed = outputs["Pusher"]["pushed_model"].custom_properties
    if not pushed["pushed"].int_value:
        return "refused", "Evaluator: " + "; ".join(describe_missed_bounds(evaluation)), facts
    facts |= {"pushed": pushed["pushed_destination"].string_value, "version": pushed["pushed_version"].string_value}
    return (
        "pushed",
        f"version {facts['version']} with {facts['headline']}, blessed within {describe_bounds(plan)}",
        facts,
    )


def overall_metrics(evaluation: Path) -> dict[str, float]:
    """Return the candidate's metrics over the whole eval split, by name."""
    slices = tfma.load_eval_result(str(evaluation)).slicing_metrics
    values: dict[str, float] = {}
    for key, outputs in slices:
        for classes in outputs.values() if key == () else []:
            for metrics in classes.values():
                values |= {name: value["doubleValue"] for name, value in metrics.items() if "doubleValue" in value}
    return values


def metric_by_slice(evaluation: Path, metric: str) -> dict[str, float]:
    """Return one metric of the candidate by slice name; the overall slice is left out."""
    values_by_slice: dict[str, float] = {}
    for key, outputs in tfma.load_eval_result(str(evaluation)).slicing_metrics:
        for classes in outputs.values() if key else []:
            values = [row[metric]["doubleValue"] for row in classes.values() if "doubleValue" in row.get(metric, {})]
            values_by_slice |= {"/".join(f"{column} {value}" for column, value in key): value for value in values[:1]}
    return values_by_slice


def describe_comparison(path: Path) -> str:
    """Describe the network and the baselines on the same rows in one line: values in descending order, then the lead."""
    report = json.loads(path.read_text())
    rows, lead = sorted(report["rows"], key=lambda row: -row["metric"]), report["ahead"]
    values = ", ".join(f"{row['model']} {row['metric']:.4f}" for row in rows)
    return f"{report['metric']}: {values}; the network is {_describe_lead(lead, report['level'])}"


def _describe_lead(lead: Mapping[str, Any], level: float) -> str:
    """Describe who leads and by how much, with the confidence interval; both are positive in the leader's favour."""
    (low, high), value = lead["interval"], lead["value"]
    if value < 0:
        low, high = -high, -low
    margin = f"by {abs(value):.4f}{', within chance' if low <= 0 <= high else ''}"
    position = f"ahead of {lead['over']} {margin}" if value > 0 else f"behind {lead['over']} {margin}"
    return f"{position if value else 'level with ' + lead['over']} ({level:.0%} interval {low:.4f} to {high:.4f})"


def describe_missed_bounds(evaluation: Path) -> list[str]:
    """Return a line for every bound that was missed: metric, slice, value and threshold."""
    result = tfma.load_validation_result(str(evaluation))
    lines = [
        f"{failure.metric_key.name} of {_slice_name(validation.slice_key)} {_describe_miss(failure)}"
        for validation in result.metric_validations_per_slice
        for failure in validation.failures
    ]
    return lines or ["the evaluation has no result for a bound"]


def describe_bounds(plan: Plan) -> str:
    """Describe the absolute bounds that a pushed model has to meet."""
    bounds = {name: value for name, value in plan.settings["gates"].items() if name.startswith(("min_", "max_"))}
    return ", ".join(f"{name} {value:g}" for name, value in bounds.items())


def _slice_name(key: Any) -> str:
    parts = [
        f"{part.column} {(part.bytes_value.decode() or part.float_value or part.int64_value)}"
        for part in key.single_slice_keys
    ]
    return " and ".join(parts) or "the whole eval split"


def _describe_miss(failure: Any) -> str:
    value, threshold = failure.metric_value.double_value.value, failure.metric_threshold
    if failure.metric_key.is_diff:
        allowed = -threshold.change_threshold.absolute.value
        return f"is {-value:.4f} below the blessed model's, and at most {allowed:g} is allowed"
    return f"is {value:.4f}, and has to be at least {threshold.value_threshold.lower_bound.value:g}"
