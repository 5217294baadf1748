"""How a stage is doing, for those who run it and those who show it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass
class Progress:
    """How a stage is doing.

    Attributes:
        state: waiting, running, done, cached, refused or failed.
        seconds: Time so far, or in all.
        cpu_seconds: What the stage's process and those that it waited for took of the processors, however busy they were.
        peak_mb: Largest resident memory of the stage's process, in MiB; what it shares with the run's own counts too.
        message: What went wrong, for refused and failed; how far it is, for a running one that says so.
    """

    state: str = "waiting"
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0
    message: str = ""
    started: float = field(default=0.0, repr=False)


# Called several times a second with every stage's progress.
Report = Callable[[Mapping[str, Progress]], None]
