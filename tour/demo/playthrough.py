"""One playing of the demonstration, as every part of it sees it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from models.use_case import UseCase
from pipeline import runtime as runtimes
from pipeline import store
from tour.demo.collaborators import REAL, Collaborators
from tour.demo.report import DemoReport


@dataclass(frozen=True)
class Playthrough:
    """Where the demonstration is played, with which settings, and what it calls and reports to.

    Attributes:
        home: Folder of all state.
        report: What is printed and summarised.
        tracking: Address of the experiment tracker.
        headless: Whether standard output is kept for the JSON summary.
        changes: Settings by name for the first trainings; each use case takes those that it has.
        collaborators: What the parts call.
    """

    home: Path
    report: DemoReport
    tracking: str = ""
    headless: bool = False
    changes: Mapping[str, str] = field(default_factory=dict)
    collaborators: Collaborators = REAL

    @property
    def runtime(self) -> runtimes.Runtime:
        """This machine, with the home as its root."""
        return runtimes.local(self.home, self.tracking)

    def read_runs(self, case: UseCase, *states: str) -> list[store.Run]:
        """Return the use case's runs, the oldest first; those in one of the states, if any are given."""
        runs = store.runs(self.runtime.metadata, case.name)
        return [run for run in runs if run.state in states] if states else runs

    def run_pipeline(self, case: UseCase, **changes: str) -> store.Run:
        """Run the use case's pipeline with the playthrough's settings and further changes.

        Raises:
            KeyboardInterrupt: if the run was interrupted.
        """
        inherited = {name: value for name, value in self.changes.items() if name in list_settings(case)}
        run = self.collaborators.run_pipeline(
            case.name,
            self.home,
            as_json=False,
            quiet=self.headless,
            tracking=self.tracking,
            changes=inherited | changes,
        )
        if run.state == "interrupted":
            raise KeyboardInterrupt
        return run


def list_settings(case: UseCase) -> set[str]:
    """Return the names of the use case's settings."""
    return {name for group in case.settings.values() for name in group}
