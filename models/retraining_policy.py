"""The retraining policy of a use case, as plain values that the decision record contains."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

from models.setting_values import parse_value


@dataclass(frozen=True)
class RetrainingPolicy:
    """When drift leads to a retraining, and how the model is retrained.

    Attributes:
        loss: Minimum loss of the headline metric, estimated or realised.
        errors: Minimum loss in standard errors of the difference; both minimums must be reached.
        insist: Number of drifted windows in one incident after which the model is retrained even without a measured
            loss; 0 for never.
        learn: Number of windows since the drift began that training must contain; with fewer it could not learn the
            change.
        full: Retrain from scratch if the loss is at least this much; below it, refresh the served model with LoRA.
        cooldown: Number of windows after a retraining in which no other starts.
        budget: Maximum number of retrainings in ``per`` windows.
        per: Number of windows that ``budget`` counts over.
        spans: Length of the training window in spans; 0 for the length of the served model's.
        settings: Settings changed for a retraining, by name, as text.
    """

    loss: float = 0.02
    errors: float = 2.0
    insist: int = 0
    learn: int = 5
    full: float = 0.0
    cooldown: int = 7
    budget: int = 2
    per: int = 30
    spans: int = 0
    settings: Mapping[str, str] = field(default_factory=dict)

    def with_changes(self, changes: Mapping[str, str]) -> Self:
        """Return a copy with numbers changed, each parsed as the type of its field.

        Raises:
            ValueError: for an unknown name, or a value that is not a number.
        """
        types = {number.name: type(getattr(self, number.name)) for number in fields(self) if number.name != "settings"}
        values: dict[str, Any] = {}
        for name, text in changes.items():
            if name not in types:
                raise ValueError(f"A policy has no '{name}'; it has {', '.join(types)}.")
            values[name] = parse_value(f"The policy's '{name}'", text, types[name])
        return replace(self, **values)
