"""What came of a run, in one sentence: what was pushed and why, or which gate refused what."""

import json
from collections.abc import Mapping
from pathlib import Path

import tensorflow_model_analysis as tfma

from pipeline import store
from pipeline.runner import Progress
from pipeline.runtime import Runtime
from pipeline.session import Plan


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
    pushed = outputs["Pusher"]["pushed_model"].custom_properties
    if not pushed["pushed"].int_value:
        return "refused", "Evaluator: " + "; ".join(failures(evaluation)), facts
    facts |= {"pushed": pushed["pushed_destination"].string_value, "version": pushed["pushed_version"].string_value}
    bounds = "; ".join(checks(evaluation, plan))
    return "pushed", f"version {facts['version']} with {facts['headline']}" + (f" ({bounds})" if bounds else ""), facts


def overall(evaluation: Path) -> dict[str, float]:
    """The candidate's metrics over the whole eval split."""
    slices = tfma.load_eval_result(str(evaluation)).slicing_metrics
    found = {}
    for key, by_output in slices:
        for by_class in by_output.values() if key == () else []:
            for metrics in by_class.values():
                found |= {name: value["doubleValue"] for name, value in metrics.items() if "doubleValue" in value}
    return found


def failures(evaluation: Path) -> list[str]:
    """Every bound that was missed: metric, slice, value and threshold."""
    result = tfma.load_validation_result(str(evaluation))
    lines = []
    for one in result.metric_validations_per_slice:
        place = "overall" if not one.slice_key.single_slice_keys else str(one.slice_key.single_slice_keys[0])
        for failure in one.failures:
            lines.append(
                f"{failure.metric_key.name} {_value(failure)} {place} {_bound(failure, failure.metric_key.is_diff)}"
            )
    return lines or ["the evaluation has no result for a bound"]


def checks(evaluation: Path, plan: Plan) -> list[str]:
    """The bounds that were kept."""
    gates = plan.settings["gates"]
    return [f"bounds {', '.join(f'{k} {v}' for k, v in gates.items() if k.startswith(('min_', 'max_')))} kept"]


def _value(failure: object) -> str:
    value = failure.metric_value.double_value.value
    return f"changed by {value:+.4f}" if failure.metric_key.is_diff else f"is {value:.4f}"


def _bound(failure: object, is_diff: bool) -> str:
    threshold = failure.metric_threshold
    if is_diff:
        return f"against the blessed model, at most {-threshold.change_threshold.absolute.value:.4f} less is allowed"
    return f"and has to be at least {threshold.value_threshold.lower_bound.value:.4f}"
