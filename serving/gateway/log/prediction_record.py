"""The part of a prediction's log record that describes the answer."""

import time
from collections.abc import Mapping
from typing import Any

from serving.gateway.log.tf_example import Value
from serving.gateway.model_calls.backend import PredictResult


def describe_prediction(
    identity: str, key: str, result: PredictResult, arm: str, answer: Mapping[str, Any], trace: str
) -> dict[str, Value]:
    """Return the fields that follow the features: id, key for late labels, time, version, arm, answer and outputs."""
    return {
        "served/id": identity,
        "served/key": key,
        "served/time": time.time_ns() // 1000,
        "served/version": result.version,
        "served/arm": arm,
        "served/score": answer["score"],
        "served/decision": answer["decision"],
        "served/trace": trace or None,
        **{f"output/{name}": rows[0].tolist() for name, rows in result.outputs.items()},
    }
