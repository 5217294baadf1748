"""The demonstration: train, serve, drift, detect, decide, retrain and swap under traffic, with nobody at the keyboard.

Each part stores its result in the home and is skipped if the result exists. So an interrupted demonstration resumes
where it stopped, and a second one repeats neither a training nor the response to a drift.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from models.catalog import CASES
from models.use_case import UseCase
from pipeline import interruption
from pipeline.online import rollouts
from pipeline.terminal import make_console, make_stderr_console
from tour.demo.collaborators import Collaborators
from tour.demo.demo_traffic import send_undrifted_traffic
from tour.demo.drift import play_drift
from tour.demo.playthrough import Playthrough, find_unknown_settings
from tour.demo.refusal import play_refusal
from tour.demo.report import DemoReport


def play_demo(
    home: Path, headless: bool, tracking: str, changes: Mapping[str, str], collaborators: Collaborators
) -> int:
    """Play every part of the demonstration.

    Args:
        home: Folder of all state.
        headless: Print a JSON summary at the end, and do not show the tour.
        tracking: Address of the experiment tracker.
        changes: Settings for the first trainings, by ``NAME`` or ``CASE.NAME``.
        collaborators: The functions that the parts call; tests pass their own.

    Returns:
        The exit code: 0 if every part succeeded, 1 if one failed, that of an interruption after Ctrl-C.

    Raises:
        ValueError: for a setting that no use case has.
    """
    if unknown := find_unknown_settings(changes, CASES.values()):
        raise ValueError(f"No use case has a setting '{unknown[0]}'.")
    console = make_stderr_console() if headless else make_console()
    report = DemoReport(console)
    play = Playthrough(home, report, collaborators, tracking=tracking, headless=headless, changes=changes)
    try:
        succeeded = _play_parts(play)
    except KeyboardInterrupt:
        report.print_line(f"Interrupted; `showcase demo --home {home}` resumes here and repeats nothing.")
        return interruption.EXIT_CODE
    if headless:
        summary = {"ok": succeeded, "seconds": round(report.elapsed, 1), "parts": report.seconds, **report.summary}
        print(json.dumps(summary, indent=1))
    return int(not succeeded)


def _play_parts(play: Playthrough) -> bool:
    """Play the parts in order; return whether each succeeded. A failed part does not stop the others."""
    report, cases = play.report, CASES.values()
    with report.time_part("Pipelines of all use cases, from raw spans to a pushed model"):
        trained = all([_train_first_model(play, case) for case in cases])
    if not trained:
        report.print_line("A use case has no pushed model, so nothing is served; `showcase status` shows the reason.")
        return False
    with play.collaborators.serve_models(play.home, report) as gateway:
        results = [send_undrifted_traffic(play, case, gateway) for case in cases]
        results += [play_drift(play, case, gateway) for case in cases if case.has("demo")]
        results.append(play_refusal(play))
        report.summary["served"] = _read_served_versions(play.home)
        report.print_summary(all(results))
        if not play.headless:
            play.collaborators.show_tour(play.home, report)
    return all(results)


def _train_first_model(play: Playthrough, case: UseCase) -> bool:
    """Run the pipeline on the data that comes with the use case; return whether a model was pushed.

    Skipped once a decision was made about the served model: from then on it is retrained on newer data.
    """
    if play.collaborators.read_decisions(play.runtime, case.name):
        run = play.read_runs(case, "pushed")[-1]
        version = run.version
        play.report.print_line(
            f"{case.name}: version {version} is served, so the model is not trained on the first data again."
        )
    else:
        run = play.run_pipeline(case)
    play.report.summary["runs"].append(asdict(run))
    return run.state == "pushed"


def _read_served_versions(home: Path) -> dict[str, int]:
    """Return the version that each use case is served with, by the name of the use case."""
    folders = {name: rollouts.served_version(home, name) for name in CASES}
    return {name: int(folder.name) for name, folder in folders.items() if folder}
