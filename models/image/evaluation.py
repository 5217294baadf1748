"""Metrics, slices and thresholds of the Evaluator for the image case."""

from collections.abc import Mapping
from typing import Any

from tensorflow_model_analysis.proto import config_pb2


def eval_config(settings: Mapping[str, Any]) -> config_pb2.EvalConfig:
    """Return accuracy overall and by class, with the bounds of the gate, and the confusion matrix."""
    overall_bounds = config_pb2.MetricThreshold(
        value_threshold=config_pb2.GenericValueThreshold(lower_bound={"value": settings["min_accuracy"]}),
        change_threshold=config_pb2.GenericChangeThreshold(
            direction=config_pb2.MetricDirection.HIGHER_IS_BETTER, absolute={"value": -settings["max_accuracy_loss"]}
        ),
    )
    class_bounds = config_pb2.MetricThreshold(
        value_threshold=config_pb2.GenericValueThreshold(lower_bound={"value": settings["min_class_accuracy"]})
    )
    by_class = config_pb2.SlicingSpec(feature_keys=["label"])
    accuracy = config_pb2.MetricConfig(
        class_name="SparseCategoricalAccuracy",
        config='{"name": "accuracy"}',
        per_slice_thresholds=[
            config_pb2.PerSliceMetricThreshold(slicing_specs=[config_pb2.SlicingSpec()], threshold=overall_bounds),
            config_pb2.PerSliceMetricThreshold(slicing_specs=[by_class], threshold=class_bounds),
        ],
    )
    others = [
        config_pb2.MetricConfig(class_name="ExampleCount", config='{"name": "example_count"}'),
        config_pb2.MetricConfig(class_name="SparseCategoricalCrossentropy", config='{"name": "loss"}'),
        config_pb2.MetricConfig(class_name="MultiClassConfusionMatrixPlot", config='{"name": "confusion"}'),
    ]
    return config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(signature_name="serving_default", label_key="label_id", prediction_key="probabilities")
        ],
        slicing_specs=[config_pb2.SlicingSpec(), by_class],
        metrics_specs=[config_pb2.MetricsSpec(metrics=[accuracy, *others])],
    )
