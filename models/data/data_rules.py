"""Rules about data: what is used, converted, skipped, dropped or refused, as rows of a table for people."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Treatment = Literal["used", "converted", "skipped", "dropped", "refused"]


@dataclass(frozen=True)
class Rule:
    """What becomes of a kind of input.

    Attributes:
        subject: What the rule is about, such as "Files".
        given: The input.
        treatment: What becomes of it. Converted, skipped and dropped input is counted and named in the report; refused input
            stops the run before its first stage.
        how: How it is read, or what the message says; may be empty.
    """

    subject: str
    given: str
    treatment: Treatment
    how: str = ""


def format_rules(rules: Iterable[Rule]) -> str:
    """Return the rules as a Markdown table."""
    lines = ["| | Given | Treatment | How |", "|---|---|---|---|"]
    subject = ""
    for rule in rules:
        shown = "" if rule.subject == subject else rule.subject
        subject = rule.subject
        cells = (shown, rule.given, rule.treatment, rule.how)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)
