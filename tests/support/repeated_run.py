"""Repeat a run from its record."""

from models.catalog import CASES
from pipeline.monitoring.retraining_loop import find_changed_settings
from pipeline.run import Run


def repeat(run: Run) -> list[str]:
    """Return the command line of the same run: its data, spans and changed settings."""
    case = CASES[run.case]
    words = ["run", run.case, "--data", run.facts["source"], "--spans", run.facts["spans"], "--tracking", "none"]
    changes = find_changed_settings(case, run, tuple(case.settings))
    return [*words, *(word for name, value in changes.items() for word in ("--set", f"{name}={value}"))]
