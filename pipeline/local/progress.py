"""Progress of a run's stages: the record, and the table on the terminal."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text


@dataclass
class Progress:
    """Progress of one stage.

    Attributes:
        state: waiting, running, done, cached, refused or failed.
        seconds: Wall-clock time so far, or in total.
        cpu_seconds: User and system time of the stage's process and of the child processes that it waited for.
        peak_mb: Peak resident memory of the stage's process, in MiB, including pages shared with the run's process.
        message: The cause, if refused or failed; the training progress of a running stage that reports it.
        started: Monotonic clock at the start, in seconds.
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
    """Show the stages' progress: a table updated in place on a terminal, elsewhere one line when a stage ends."""

    def __init__(self, console: Console):
        self._console = console
        self._live = Live(console=console, auto_refresh=False)  # a refresh thread is unsafe with fork
        self._ended: set[str] = set()

    def __enter__(self) -> "ProgressTable":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def report(self, progress: Mapping[str, Progress]) -> None:
        """Show the state of every stage."""
        if self._console.is_terminal:
            self._live.update(_table(progress), refresh=True)
            return
        for name, stage in progress.items():
            if stage.state not in ("waiting", "running") and name not in self._ended:
                self._ended.add(name)
                self._console.print(f"{name:17} {stage.state:9}{stage.seconds:6.1f} s")


def _table(progress: Mapping[str, Progress]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("stage", "state", "seconds", ""):
        table.add_column(name, justify="right" if name == "seconds" else "left")
    for name, stage in progress.items():
        table.add_row(
            name,
            Text(stage.state, COLOURS[stage.state]),
            f"{stage.seconds:.1f}" if stage.seconds else "",
            stage.message if stage.state == "running" else "",
        )
    return table
