"""Accuracy over all points."""

from collections.abc import Mapping
from typing import Any

import tensorflow_model_analysis as tfma


def eval_config(settings: Mapping[str, Any]) -> tfma.EvalConfig:
    """Accuracy with a lower bound."""
    bound = tfma.GenericValueThreshold(lower_bound={"value": settings["min_accuracy"]})
    accuracy = tfma.MetricConfig(
        class_name="SparseCategoricalAccuracy",
        config='{"name": "accuracy"}',
        threshold=tfma.MetricThreshold(value_threshold=bound),
    )
    return tfma.EvalConfig(
        model_specs=[tfma.ModelSpec(signature_name="serving_default", label_key="above")],
        slicing_specs=[tfma.SlicingSpec()],
        metrics_specs=[tfma.MetricsSpec(metrics=[accuracy])],
    )
