"""Feature attribution: which features, each replaced by its typical value, would lower the score most.

It costs one more call of the model.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from serving.gateway.log.tf_example import Value

MAX_FEATURES = 3


def vary_features(
    features: Mapping[str, Value], hints: Sequence[str], typical: Mapping[str, float | str]
) -> list[tuple[str, dict[str, Value]]]:
    """Return one copy of the row per feature, with that feature at its typical value, paired with the feature's name.

    Features that are already typical are skipped.
    """
    varied = []
    for name in hints:
        value, typical_value = features.get(name), typical.get(name)
        if typical_value is not None and value != typical_value:
            varied.append((name, {**features, name: typical_value}))
    return varied


def rank_attributions(
    features: Mapping[str, Value],
    varied: Sequence[tuple[str, Mapping[str, Value]]],
    score: float,
    scores: Sequence[float],
) -> list[dict[str, Any]]:
    """Return at most ``MAX_FEATURES`` features that lower the score, the strongest first; none that raises it.

    Args:
        features: The row as it is.
        varied: What :func:`vary_features` returned.
        score: Score of the row as it is.
        scores: Score of each row in ``varied``.
    """
    ascending = sorted(zip(varied, scores, strict=True), key=lambda pair: pair[1])
    return [
        {"feature": name, "value": features.get(name), "typical": row[name], "lowers_by": score - lower}
        for (name, row), lower in ascending[:MAX_FEATURES]
        if lower < score
    ]
