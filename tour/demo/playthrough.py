"""The context that all parts of one playthrough of the demonstration share."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from models.use_case import UseCase
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.run import Run
from pipeline.runtime import Runtime
from tour.demo.collaborators import Collaborators
from tour.demo.report import DemoReport


@dataclass(frozen=True)
class Playthrough:
    """Home, settings, collaborators and report of one playthrough.

    Attributes:
        home: Folder of all state.
        report: Prints progress and collects the summary.
        collaborators: The functions that the parts call.
        tracking: Address of the experiment tracker.
        headless: Whether standard output is reserved for the JSON summary.
        changes: Settings for the first trainings; see :func:`select_settings`.
    """

    home: Path
    report: DemoReport
    collaborators: Collaborators
    tracking: str = ""
    headless: bool = False
    changes: Mapping[str, str] = field(default_factory=dict)

    @property
    def runtime(self) -> Runtime:
        """This machine, with the home as its root."""
        return local_runtime(self.home, self.tracking)

    def read_runs(self, case: UseCase, *states: str) -> list[Run]:
        """Return the use case's runs, the oldest first; those in one of the states, if any are given."""
        runs = store.runs(self.runtime.metadata, case.name)
        return [run for run in runs if run.state in states] if states else runs

    def run_pipeline(self, case: UseCase, **changes: str) -> Run:
        """Run the use case's pipeline with the playthrough's settings and further changes.

        Raises:
            KeyboardInterrupt: if the run was interrupted.
        """
        run = self.collaborators.run_pipeline(
            case.name,
            self.home,
            as_json=False,
            quiet=self.headless,
            tracking=self.tracking,
            changes=select_settings(case, self.changes) | changes,
        )
        if run.state == "interrupted":
            raise KeyboardInterrupt
        return run


def list_settings(case: UseCase) -> set[str]:
    return {name for group in case.settings.values() for name in group}


def select_settings(case: UseCase, changes: Mapping[str, str]) -> dict[str, str]:
    """Return the changes that apply to a use case: ``NAME`` to each with that setting, ``CASE.NAME`` to one.

    Use cases may use one name for different things: ``width`` is a number of units in one and of pixels in another.
    """
    names = list_settings(case)
    shared = {name: value for name, value in changes.items() if name in names}
    own = {name: changes[f"{case.name}.{name}"] for name in names if f"{case.name}.{name}" in changes}
    return shared | own


def find_unknown_settings(changes: Mapping[str, str], cases: Iterable[UseCase]) -> list[str]:
    """Return the names in changes that apply to no use case, sorted."""
    valid_names = {prefix + name for case in cases for name in list_settings(case) for prefix in ("", f"{case.name}.")}
    return sorted(set(changes) - valid_names)
