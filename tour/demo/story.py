"""The demonstration: train, serve, drift, notice, decide, retrain and swap under traffic, with nobody at the keyboard.

Each part leaves its result in the home and is skipped where it finds that result. So an interrupted demonstration goes on
where it stopped, and a second one repeats neither a training nor the answer to a drift.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from models.catalog import CASES
from models.use_case import UseCase
from pipeline.online import rollouts
from tour.demo.collaborators import Collaborators
from tour.demo.drift import play_drift
from tour.demo.playthrough import Playthrough, find_unknown_settings
from tour.demo.refusal import play_refusal
from tour.demo.report import DemoReport
from tour.demo.traffic import send_usual_traffic

INTERRUPTED = 130  # exit code after Ctrl-C: 128 and the number of SIGINT


def play_demo(
    home: Path, headless: bool, tracking: str, changes: Mapping[str, str], collaborators: Collaborators
) -> int:
    """Play every part of the demonstration.

    Args:
        home: Folder of all state.
        headless: Print a JSON summary at the end, and do not show the tour.
        tracking: Address of the experiment tracker.
        changes: Settings for the first trainings, by ``NAME`` or ``CASE.NAME``.
        collaborators: What the parts call; tests pass their own.

    Returns:
        The exit code: 0 if every part ended as it should, 1 if one did not, ``INTERRUPTED`` after Ctrl-C.

    Raises:
        ValueError: for a setting that no use case has.
    """
    if unknown := find_unknown_settings(changes, CASES.values()):
        raise ValueError(f"No case has a setting '{unknown[0]}'.")
    # A duplicate of standard error, since stages redirect descriptor 2 to the log of their run.
    console = Console(file=os.fdopen(os.dup(2), "w")) if headless else Console()
    report = DemoReport(console)
    play = Playthrough(home, report, collaborators, tracking=tracking, headless=headless, changes=changes)
    try:
        succeeded = _play_parts(play)
    except KeyboardInterrupt:
        report.print_line(f"Interrupted; `showcase demo --home {home}` goes on from here and repeats nothing.")
        return INTERRUPTED
    if headless:
        summary = {"ok": succeeded, "seconds": round(report.elapsed, 1), "parts": report.seconds, **report.summary}
        print(json.dumps(summary, indent=1))
    return int(not succeeded)


def _play_parts(play: Playthrough) -> bool:
    """Play the parts in their order; return whether each ended as it should. A part that fails does not stop the rest."""
    report, cases = play.report, CASES.values()
    with report.time_part("Pipelines of all use cases, from raw spans to a pushed model"):
        trained = all([_train_first_model(play, case) for case in cases])
    if not trained:
        report.print_line("Not every use case was pushed, so nothing is served; `showcase status` says why.")
        return False
    with play.collaborators.serve_models(play.home, report) as gateway:
        results = [send_usual_traffic(play, case, gateway) for case in cases]
        results += [play_drift(play, case, gateway) for case in cases if case.has("demo")]
        results.append(play_refusal(play))
        report.summary["served"] = _read_served_versions(play.home)
        report.print_summary(all(results))
        if not play.headless:
            play.collaborators.show_tour(play.home, report)
    return all(results)


def _train_first_model(play: Playthrough, case: UseCase) -> bool:
    """Run the pipeline on the data that comes with the use case; return whether a model was pushed.

    Skipped once a decision was made about the model in service, because newer data decide what is trained from then on.
    """
    if play.collaborators.read_decisions(play.runtime, case.name):
        run = play.read_runs(case, "pushed")[-1]
        version = run.facts["version"]
        play.report.print_line(
            f"{case.name}: version {version} is in service and is not trained on the first data again."
        )
    else:
        run = play.run_pipeline(case)
    play.report.summary["runs"].append(asdict(run))
    return run.state == "pushed"


def _read_served_versions(home: Path) -> dict[str, int]:
    """Return the version that each use case is served with, by the name of the use case."""
    folders = {name: rollouts.served_version(home, name) for name in CASES}
    return {name: int(folder.name) for name, folder in folders.items() if folder}
