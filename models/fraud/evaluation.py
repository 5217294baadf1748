"""Metrics, slices and thresholds of the Evaluator for the fraud case."""

import json
from collections.abc import Mapping
from typing import Any

from tensorflow_model_analysis.metrics import confusion_matrix_metrics
from tensorflow_model_analysis.proto import config_pb2

from models.evaluation.costs import decision_threshold

THRESHOLDS = 1000


class CostPerPurchase(confusion_matrix_metrics.ConfusionMatrixMetricBase):
    """Mean cost of the decisions, in units of currency a purchase: missed frauds and reviewed honest purchases.

    Question: A30
    Answer: A type I error is a false alarm: an honest purchase is stopped. A type II error is a miss: a fraud passes. The
        decision threshold trades one for the other. With calibrated scores the cheapest threshold is review cost /
        (review cost + miss cost), whatever the model is; without calibration that formula is wrong. Here both costs are
        settings, the threshold is exported with the model, and the Evaluator measures the mean cost at that threshold.
    Evidence: tour.evidence.thresholds.errors
    Proof: tests/tour/evidence/test_thresholds.py::test_the_cheapest_threshold_follows_from_the_prices_if_scores_are_calibrated
    """

    def __init__(self, miss_cost: float, review_cost: float, thresholds: float = 0.5, name: str = "cost"):
        super().__init__(thresholds=thresholds, name=name, miss_cost=miss_cost, review_cost=review_cost)

    def _metric_value(self, key: Any, matrices: Any, miss_cost: float, review_cost: float) -> float:
        """Compute the cost from the confusion matrix at the single threshold."""
        rows = matrices.tp[0] + matrices.tn[0] + matrices.fp[0] + matrices.fn[0]
        return float((matrices.fn[0] * miss_cost + matrices.fp[0] * review_cost) / rows) if rows else float("nan")


def eval_config(settings: Mapping[str, Any]) -> config_pb2.EvalConfig:
    """Return the metrics of the score and at the served threshold, overall and by channel, with the bounds of the gate.

    Question: A28
    Answer: The ROC curve plots the true positive rate against the false positive rate as the threshold moves. The area
        under it is the probability that a random positive scores above a random negative. It does not depend on the
        share of positives, which is also its trap: when fraud is rare, a small false positive rate still means many
        false alarms. So our gate uses the area under the precision-recall curve.
    Evidence: tour.evidence.thresholds.roc
    Proof: tests/tour/evidence/test_thresholds.py::test_the_area_under_the_roc_is_scikit_learns
    """
    threshold = decision_threshold(settings)
    cost = {name: settings[name] for name in ("miss_cost", "review_cost")} | {"thresholds": threshold}
    metrics = [
        _metric("ExampleCount", name="example_count"),
        _metric("AUC", name="pr_auc", curve="PR", num_thresholds=THRESHOLDS),
        _metric("AUC", name="roc_auc", curve="ROC", num_thresholds=THRESHOLDS),
        _metric("ConfusionMatrixPlot", name="confusion", num_thresholds=THRESHOLDS),
        # One output and few computations, as TFMA evaluates each of them on every row of every slice.
        _metric("ConfusionMatrixAtThresholds", name="counts", thresholds=[threshold]),
        _metric("Precision", name="precision", thresholds=[threshold]),
        _metric("Recall", name="recall", thresholds=[threshold]),
        config_pb2.MetricConfig(class_name="CostPerPurchase", module=__name__, config=json.dumps(cost)),
    ]
    _bound(metrics, "pr_auc", settings["min_pr_auc"], settings["max_pr_auc_loss"])
    return config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(signature_name="serving_default", label_key="is_fraud", prediction_key="score")
        ],
        slicing_specs=[config_pb2.SlicingSpec(), config_pb2.SlicingSpec(feature_keys=["channel"])],
        metrics_specs=[config_pb2.MetricsSpec(metrics=metrics)],
        options=config_pb2.Options(include_default_metrics={"value": False}),
    )


def _metric(class_name: str, **config: Any) -> config_pb2.MetricConfig:
    return config_pb2.MetricConfig(class_name=class_name, config=json.dumps(config))


def _bound(metrics: list[config_pb2.MetricConfig], name: str, minimum: float, max_loss: float) -> None:
    """Set the bounds over the whole split: at least ``minimum``, and at most ``max_loss`` below the blessed model."""
    threshold = config_pb2.MetricThreshold(
        value_threshold=config_pb2.GenericValueThreshold(lower_bound={"value": minimum}),
        change_threshold=config_pb2.GenericChangeThreshold(
            direction=config_pb2.MetricDirection.HIGHER_IS_BETTER, absolute={"value": -max_loss}
        ),
    )
    overall = config_pb2.PerSliceMetricThreshold(slicing_specs=[config_pb2.SlicingSpec()], threshold=threshold)
    for metric in metrics:
        if json.loads(metric.config).get("name") == name:
            metric.per_slice_thresholds.append(overall)
