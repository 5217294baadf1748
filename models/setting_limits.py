"""Limits of settings: the range of a number, the choices of a text, and conditions on several settings together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """Numbers that a setting may have.

    Attributes:
        least, most: Smallest and largest value, both included.
        unit: Plural noun of the unit; empty for a plain number.
        off: A value outside the range that is allowed, too, because it turns something off; None for none.
    """

    least: float
    most: float
    unit: str = ""
    off: float | None = None

    def __contains__(self, value: float) -> bool:
        return self.least <= value <= self.most or value == self.off

    def __str__(self) -> str:
        off = "" if self.off is None else f"{self.off:g}, or "
        return f"{off}from {_format(self.least)} to {_format(self.most)}" + (f" {self.unit}" if self.unit else "")


Limit = Range | tuple[Any, ...]


@dataclass(frozen=True)
class Combination:
    """A condition on several settings.

    Attributes:
        names: The settings.
        holds: Whether all settings, flat, meet the condition.
        reason: What the settings must meet and why, as the end of a sentence that begins with their values.
    """

    names: Sequence[str]
    holds: Callable[[Mapping[str, Any]], bool]
    reason: str


def check_limits(
    settings: Mapping[str, Any], limits: Mapping[str, Limit], combinations: Sequence[Combination] = ()
) -> None:
    """Check that each setting is within its limit, and that all conditions hold.

    Raises:
        ValueError: names the setting, its value and what is allowed.
    """
    for name, limit in limits.items():
        if settings[name] not in limit:
            allowed = str(limit) if isinstance(limit, Range) else f"one of {', '.join(map(str, limit))}"
            raise ValueError(f"Setting '{name}' is {settings[name]}; it must be {allowed}.")
    for combination in combinations:
        if not combination.holds(settings):
            values = ", ".join(f"{name}={settings[name]}" for name in combination.names)
            raise ValueError(f"{values}: {combination.reason}.")


def _format(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"
