"""A candidate that a gate refuses: the network of the cheapest use case after one training step."""

from dataclasses import asdict

from models.catalog import CASES
from models.use_case import UseCase
from tour.demo.playthrough import Playthrough

UNTRAINED = {"max_steps": "1"}


def play_refusal(play: Playthrough) -> bool:
    """Train the candidate, unless an earlier playthrough did; return whether it was refused."""
    case = choose_case()
    with play.report.time_part(f"{case.name}: a candidate after one training step meets the gates"):
        refused = [run for run in play.read_runs(case, "refused") if not run.decision]
        if refused:
            run = refused[-1]
            play.report.print_line(f"refused before: {run.reason}")
        else:
            run = play.run_pipeline(case, **UNTRAINED)
    play.report.summary["refused"] = asdict(run)
    return run.state == "refused"


def choose_case() -> UseCase:
    """Return the first use case without a drift scenario, which is the cheapest to train; or else the first."""
    cases = list(CASES.values())
    return next((case for case in cases if not case.has("demo")), cases[0])
