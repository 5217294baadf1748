"""Metrics of the Evaluator: accuracy over all points."""

from collections.abc import Mapping
from typing import Any

from tensorflow_model_analysis.proto import config_pb2


def eval_config(settings: Mapping[str, Any]) -> config_pb2.EvalConfig:
    """Return accuracy with a lower bound."""
    bound = config_pb2.GenericValueThreshold(lower_bound={"value": settings["min_accuracy"]})
    accuracy = config_pb2.MetricConfig(
        class_name="SparseCategoricalAccuracy",
        config='{"name": "accuracy"}',
        threshold=config_pb2.MetricThreshold(value_threshold=bound),
    )
    return config_pb2.EvalConfig(
        model_specs=[config_pb2.ModelSpec(signature_name="serving_default", label_key="above")],
        slicing_specs=[config_pb2.SlicingSpec()],
        metrics_specs=[config_pb2.MetricsSpec(metrics=[accuracy])],
    )
