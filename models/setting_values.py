"""Values of settings, given as text on the command line."""

import math
from typing import Any

KINDS = {int: "a whole number", float: "a number"}
SHOWN = 60  # characters of a value that a message repeats


def parse_value(subject: str, text: str, kind: type) -> Any:
    """Return the value of a text as a bool, an int, a finite float or a str.

    Args:
        subject: The setting, as the beginning of an error message.
        text: The value.
        kind: The type of the value.

    Raises:
        ValueError: if the text is no such value; the message says what is.
    """
    shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{subject} is true or false, not '{shown}'.")
        return text.lower() == "true"
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{subject} takes {KINDS[kind]}, not '{shown}'.")
    return value
