"""When a model is trained again, as plain values that a decision's record shows."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any


@dataclass(frozen=True)
class Policy:
    """What drift has to do before a model is trained again, and how that is done.

    Attributes:
        loss: The least estimated or realised loss of the case's headline metric.
        errors: How many standard errors of the difference the loss has to exceed as well.
        insist: Windows with drift in an incident after which it is done without a loss; 0 for never.
        learn: Windows since the drift began that training has to see: before, it could learn nothing of it.
        full: From this loss on anew; below, the served model is refined through adapters.
        cooldown: Windows after a retraining in which none is begun.
        budget: Retrainings in ``per`` windows.
        per: See there.
        spans: Length of the window to train on; 0 for as many as the served model's.
        settings: Changed for a retraining, by name, as text.
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

    def changed(self, changes: Mapping[str, str]) -> "Policy":
        """With numbers changed, each read as the type it has.

        Raises:
            ValueError: for a name that is none of a policy's numbers, or a value that is no number.
        """
        known = {one.name: type(getattr(self, one.name)) for one in fields(self) if one.name != "settings"}
        read: dict[str, Any] = {}
        for name, text in changes.items():
            if name not in known:
                raise ValueError(f"A policy has no '{name}'; it has {', '.join(known)}.")
            try:
                read[name] = known[name](text)
            except ValueError:
                raise ValueError(f"The policy's '{name}' takes a {known[name].__name__}, not '{text}'.") from None
        return replace(self, **read)
