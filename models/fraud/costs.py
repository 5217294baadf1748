"""What errors cost, and the threshold that follows."""

from collections.abc import Mapping
from typing import Any


def served_threshold(settings: Mapping[str, Any]) -> float:
    """The cheapest threshold on a calibrated probability of fraud (Elkan 2001).

    To stop a purchase costs ``review_cost`` if it is honest; to let it pass costs ``miss_cost`` if it is not. Stopping is
    cheaper where the probability exceeds review / (review + miss).
    """
    return settings["review_cost"] / (settings["review_cost"] + settings["miss_cost"])
