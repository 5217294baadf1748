"""Costs of errors, and the decision threshold that follows from them."""

from collections.abc import Mapping
from typing import Any


def decision_threshold(settings: Mapping[str, Any]) -> float:
    """Return the cheapest threshold on a calibrated probability of the positive class (Elkan 2001).

    A false alarm costs ``review_cost``; a missed positive costs ``miss_cost``. An alarm is cheaper where the probability
    exceeds review / (review + miss).
    """
    return settings["review_cost"] / (settings["review_cost"] + settings["miss_cost"])
