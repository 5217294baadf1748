"""The traffic of the demonstration, sent day by day, so that an interrupted demonstration resumes with the next day."""

import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.use_case import UseCase
from pipeline.local import processes
from pipeline.online.replay import TrafficOptions
from serving.atomic_file import write_atomically
from tour.demo.playthrough import Playthrough

CONNECTIONS = 16
BACKGROUND_RATE = 15.0  # requests per second while a model is trained
SENT_DAYS = "demo.json"


def load_scenario(play: Playthrough, case: UseCase) -> Any:
    """Return the traffic scenario of the use case, which continues the data of its first model with generated data.

    Raises:
        ValueError: if every pushed model was trained on other data, as that cannot be continued.
    """
    traffic = case.load("traffic")
    for run in play.read_runs(case, "pushed"):
        if generator := traffic.read_generator_settings(run.source):
            settings = case.configure({})["data"] | run.settings["data"] | generator
            return case.load("demo").plan_traffic(play.home / "data", settings)
    raise ValueError(
        f"No pushed model of {case.name} under {play.home} was trained on generated data that is still there, "
        "and only such data can be continued with a drift; play the demonstration in another --home."
    )


def send_undrifted_traffic(play: Playthrough, case: UseCase, gateway: Mapping[str, Any]) -> bool:
    """Send rows with the distribution of the training data; return whether every answer was valid."""
    with play.report.time_part(f"{case.name}: traffic without drift, every answer checked"):
        if not case.has("demo"):
            return record_replies(play, case, replay(play, case, gateway))
        scenario = load_scenario(play, case)
        return send_days(play, case, gateway, scenario, scenario.usual)


def send_days(play: Playthrough, case: UseCase, gateway: Mapping[str, Any], scenario: Any, days: Iterable[int]) -> bool:
    """Send the days that were not sent before, with the labels that are known by the end of the scenario.

    Returns:
        Whether every request got a valid answer.
    """
    last_day, replies = read_last_day(play.home, case), []
    for day in days:
        if day > last_day:
            replies.append(replay(play, case, gateway, scenario.folder, day, day in scenario.labelled))
            write_last_day(play.home, case, day)
    if not replies:
        play.report.print_line("These days were sent by an earlier playthrough.")
        return True
    return record_replies(play, case, *replies)


def replay(
    play: Playthrough,
    case: UseCase,
    gateway: Mapping[str, Any],
    folder: Path | None = None,
    day: int = -1,
    labels: bool = True,
) -> dict[str, Any]:
    """Send one day of a folder of spans, or without a folder all rows of the use case; return counts and latencies."""
    request = TrafficOptions(
        case=case.name,
        home=play.home,
        data=None if folder is None else str(folder),
        first=day,
        last=day,
        drift=[],
        rate=0.0,
        seconds=0.0,
        connections=CONNECTIONS,
        address=f"{gateway['host']}:{gateway['gateway']}",
        labels=labels,
    )
    return play.collaborators.replay_traffic(request)


def record_replies(play: Playthrough, case: UseCase, *replies: Mapping[str, Any]) -> bool:
    """Add the results of requests to the summary and print them; return whether every request got a valid answer."""
    summary = play.report.summary
    totals = summary["traffic"].setdefault(case.name, {"sent": 0, "failed": 0, "labels": 0, "versions": {}})
    for reply in replies:
        for name in ("sent", "failed", "labels"):
            totals[name] += reply[name]
        for version, count in reply["versions"].items():
            totals["versions"][version] = totals["versions"].get(version, 0) + count
    sent, failed = (sum(reply[name] for reply in replies) for name in ("sent", "failed"))
    summary["failed"] += failed
    slowest = max((reply["milliseconds"].get("p99", 0.0) for reply in replies), default=0.0)
    versions = ", ".join(sorted({version for reply in replies for version in reply["versions"]}, key=int))
    play.report.print_line(
        f"{sent} requests to version {versions or 'none'}, {failed} failed, p99 at most {slowest:.0f} ms"
    )
    return failed == 0 and sent > 0


@contextmanager
def keep_sending(play: Playthrough, case: UseCase, scenario: Any) -> Iterator[subprocess.Popen[str]]:
    """Send requests from a child process until the block ends; yields the process."""
    first_day = max(read_last_day(play.home, case) + 1, scenario.later.start)
    days = f"{first_day}:{scenario.later.stop - 1}"
    write_last_day(play.home, case, first_day)  # another attempt starts with the next day
    words = ["traffic", case.name, "--home", play.home, "--data", scenario.folder, "--spans", days]
    options = ["--rate", BACKGROUND_RATE, "--no-labels", "--json"]
    child = play.collaborators.start_process([*words, *options], play.home / "traffic.log")
    try:
        yield child
    finally:
        processes.end(child)


def finish_sending(play: Playthrough, case: UseCase, child: subprocess.Popen[str]) -> bool:
    """End the child process of ``keep_sending`` and record its results; return whether every answer was valid."""
    exit_code = processes.end(child)
    text = processes.output(child).read()
    if not text:
        play.report.print_line(
            f"The traffic process ended with exit code {exit_code} and no report; see {play.home / 'traffic.log'}."
        )
        return False
    return record_replies(play, case, json.loads(text))


def read_last_day(home: Path, case: UseCase) -> int:
    """Return the last day that was sent; -1 for none."""
    return _read_sent_days(home).get(case.name, -1)


def write_last_day(home: Path, case: UseCase, day: int) -> None:
    """Record the last day that was sent, atomically."""
    days = _read_sent_days(home) | {case.name: day}
    write_atomically(home / SENT_DAYS, json.dumps(days).encode())


def _read_sent_days(home: Path) -> dict[str, int]:
    try:
        return json.loads((home / SENT_DAYS).read_text())
    except FileNotFoundError:
        return {}
