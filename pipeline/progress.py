"""How a stage is doing, for those who run it and those who show it."""

from dataclasses import dataclass, field


@dataclass
class Progress:
    """How a stage is doing.

    Attributes:
        state: waiting, running, done, cached, refused or failed.
        seconds: Time so far, or in all.
        cpu: Processor seconds of the stage's process and of those that it started and saw end.
        peak_mb: Largest resident memory of the stage's process, in MiB; what it shares with the run's own counts too.
        message: What went wrong, for refused and failed; how far it is, for a running one that says so.
    """

    state: str = "waiting"
    seconds: float = 0.0
    cpu: float = 0.0
    peak_mb: float = 0.0
    message: str = ""
    started: float = field(default=0.0, repr=False)
