"""The progress of a run's stages: its record, and the table that shows it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text


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

COLOURS = {"done": "green", "cached": "cyan", "running": "yellow", "refused": "red", "failed": "red", "waiting": "dim"}


class ProgressTable:
    """Shows how stages are doing: a table that changes in place on a terminal, elsewhere a line as each one ends."""

    def __init__(self, console: Console):
        self._console = console
        self._live = Live(console=console, auto_refresh=False)  # a refresh thread and fork do not go together
        self._ended: set[str] = set()

    def __enter__(self) -> "ProgressTable":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def report(self, progress: Mapping[str, Progress]) -> None:
        """Takes the state of every stage."""
        if self._console.is_terminal:
            self._live.update(_table(progress), refresh=True)
            return
        for name, one in progress.items():
            if one.state not in ("waiting", "running") and name not in self._ended:
                self._ended.add(name)
                self._console.print(f"{name:17} {one.state:9}{one.seconds:6.1f} s", highlight=False)


def _table(progress: Mapping[str, Progress]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("stage", "state", "seconds", ""):
        table.add_column(name, justify="right" if name == "seconds" else "left")
    for name, one in progress.items():
        table.add_row(
            name,
            Text(one.state, COLOURS[one.state]),
            f"{one.seconds:.1f}" if one.seconds else "",
            one.message if one.state == "running" else "",
        )
    return table
