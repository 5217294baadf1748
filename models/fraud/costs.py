"""Costs of errors, and the decision threshold that follows from them."""

from collections.abc import Mapping
from typing import Any


def decision_threshold(settings: Mapping[str, Any]) -> float:
    """Return the cheapest threshold on a calibrated probability of fraud (Elkan 2001).

    Stopping an honest purchase costs ``review_cost``; passing a fraud costs ``miss_cost``. Stopping is cheaper where the
    probability exceeds review / (review + miss).
    """
    return settings["review_cost"] / (settings["review_cost"] + settings["miss_cost"])
