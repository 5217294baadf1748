"""Why a score is high: which features, each set to what is typical, would lower it most. One more call of the model."""

from collections.abc import Mapping, Sequence
from typing import Any

from serving.gateway.log.tf_example import Value

MOST = 3


def variations(
    features: Mapping[str, Value], hints: Sequence[str], typical: Mapping[str, float | str]
) -> list[tuple[str, dict[str, Value]]]:
    """The row with one feature at its typical value, by that feature's name; those that are typical are left out."""
    found = []
    for name in hints:
        value, usual = features.get(name), typical.get(name)
        if usual is not None and value != usual:
            found.append((name, {**features, name: usual}))
    return found


def reasons(
    features: Mapping[str, Value],
    varied: Sequence[tuple[str, Mapping[str, Value]]],
    score: float,
    scores: Sequence[float],
) -> list[dict[str, Any]]:
    """The features that lower the score most, at most ``MOST``, the strongest first; none raises it.

    Args:
        score: Of the row as it is.
        scores: Of each of ``varied``.
    """
    fall = sorted(zip(varied, scores, strict=True), key=lambda pair: pair[1])
    return [
        {"feature": name, "value": features.get(name), "typical": row[name], "lowers_by": score - lower}
        for (name, row), lower in fall[:MOST]
        if lower < score
    ]
