"""The names of a model's classes, in the order of its probabilities."""

from collections.abc import Mapping
from typing import Any


def list_classes(settings: Mapping[str, Any]) -> list[str]:
    """Return the classes of a run or a served version; empty if it has none.

    Args:
        settings: Settings with the list ``classes``; versions of older releases have a text with commas.
    """
    classes = settings.get("classes") or []
    return classes.split(",") if isinstance(classes, str) else list(classes)
