"""What the Evaluator measures on the image case, on which slices, and what a candidate has to reach."""

from collections.abc import Mapping
from typing import Any

import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.proto import config_pb2


def eval_config(settings: Mapping[str, Any]) -> tfma.EvalConfig:
    """Accuracy overall and by class, confusion between classes, with the gate's bounds."""
    whole = tfma.MetricThreshold(
        value_threshold=tfma.GenericValueThreshold(lower_bound={"value": settings["min_accuracy"]}),
        change_threshold=tfma.GenericChangeThreshold(
            direction=tfma.MetricDirection.HIGHER_IS_BETTER, absolute={"value": -settings["max_accuracy_loss"]}
        ),
    )
    of_class = tfma.MetricThreshold(
        value_threshold=tfma.GenericValueThreshold(lower_bound={"value": settings["min_class_accuracy"]})
    )
    by_class = tfma.SlicingSpec(feature_keys=["label"])
    accuracy = tfma.MetricConfig(
        class_name="SparseCategoricalAccuracy",
        config='{"name": "accuracy"}',
        per_slice_thresholds=[
            config_pb2.PerSliceMetricThreshold(slicing_specs=[tfma.SlicingSpec()], threshold=whole),
            config_pb2.PerSliceMetricThreshold(slicing_specs=[by_class], threshold=of_class),
        ],
    )
    others = [
        tfma.MetricConfig(class_name="ExampleCount", config='{"name": "example_count"}'),
        tfma.MetricConfig(class_name="SparseCategoricalCrossentropy", config='{"name": "loss"}'),
        tfma.MetricConfig(class_name="MultiClassConfusionMatrixPlot", config='{"name": "confusion"}'),
    ]
    return tfma.EvalConfig(
        model_specs=[
            tfma.ModelSpec(signature_name="serving_default", label_key="label_id", prediction_key="probabilities")
        ],
        slicing_specs=[tfma.SlicingSpec(), by_class],
        metrics_specs=[tfma.MetricsSpec(metrics=[accuracy, *others])],
    )
