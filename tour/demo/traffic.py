"""The traffic of the demonstration, a day at a time, so that one that was stopped goes on with the next."""

import json
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.use_case import UseCase
from pipeline import children, store, traffic
from pipeline import runtime as runtimes

if TYPE_CHECKING:
    from tour.demo.story import Story

CONNECTIONS = 16
RATE = 15.0  # of the traffic that goes on while a model is trained
SENT = "demo.json"


def shown(home: Path, case: UseCase) -> Any:
    """What the case's package has to show, for the data that its first model has learnt from."""
    pushed = [run for run in store.runs(runtimes.local(home).metadata, case.name) if run.state == "pushed"]
    settings = case.configured({})["data"] | json.loads(pushed[0].facts["settings"])["data"]
    return case.load("demo").shown(home / "data", settings)


def usual(story: "Story", case: UseCase, place: Mapping[str, Any]) -> bool:
    """Sends rows like those that were learnt from, and says what was answered; whether all answers were right."""
    with story.part(f"{case.name}: traffic as usual, every answer checked"):
        if not case.has("demo"):
            return counted(story, case, replay(story, case, place))
        what = shown(story.home, case)
        return days(story, case, place, what, what.usual)


def days(story: "Story", case: UseCase, place: Mapping[str, Any], what: Any, which: Iterable[int]) -> bool:
    """Sends days that were not sent before, and the labels of those whose labels have come when all are over."""
    last, parts = sent(story.home, case.name), []
    for day in which:
        if day > last:
            parts.append(replay(story, case, place, what.folder, day, day in what.labelled))
            _note(story.home, case.name, day)
    if not parts:
        story.say("sent before")
        return True
    return counted(story, case, *parts)


def replay(
    story: "Story",
    case: UseCase,
    place: Mapping[str, Any],
    folder: Path | None = None,
    day: int = -1,
    labels: bool = True,
) -> dict[str, Any]:
    """Sends a day, or all that a case has; what came of it."""
    at = f"{place['host']}:{place['gateway']}"
    data = None if folder is None else str(folder)
    return traffic.replayed(
        traffic.Replay(case.name, story.home, data, day, day, [], 0.0, 0.0, CONNECTIONS, at, labels)
    )


def counted(story: "Story", case: UseCase, *parts: Mapping[str, Any]) -> bool:
    """Tells what came of requests and adds it up; whether each had a right answer."""
    told = story.told["traffic"].setdefault(case.name, {"sent": 0, "failed": 0, "labels": 0, "versions": {}})
    for part in parts:
        for name in ("sent", "failed", "labels"):
            told[name] += part[name]
        for version, count in part["versions"].items():
            told["versions"][version] = told["versions"].get(version, 0) + count
    count, failed = (sum(part[name] for part in parts) for name in ("sent", "failed"))
    story.told["failed"] += failed
    slow = max((part["milliseconds"].get("p99", 0.0) for part in parts), default=0.0)
    versions = ", ".join(sorted({version for part in parts for version in part["versions"]}, key=int))
    story.say(f"{count} requests to version {versions or 'none'}, {failed} failed, p99 at most {slow:.0f} ms")
    return failed == 0 and count > 0


@contextmanager
def constant(story: "Story", case: UseCase, what: Any) -> Iterator[subprocess.Popen[str]]:
    """Keeps requests coming from a process of its own until the end of the block."""
    first = max(sent(story.home, case.name) + 1, what.later.start)
    words = [
        "traffic",
        case.name,
        "--home",
        story.home,
        "--data",
        what.folder,
        "--spans",
        f"{first}:{what.later.stop - 1}",
    ]
    _note(story.home, case.name, first)  # another attempt goes on with the day after
    child = children.start([*words, "--rate", RATE, "--no-labels", "--json"], story.home / "traffic.log")
    try:
        yield child
    finally:
        children.end(child)


def closed(story: "Story", case: UseCase, child: subprocess.Popen[str]) -> bool:
    """Ends constant traffic and tells what came of it."""
    children.end(child)
    text = child.stdout.read()
    if not text:
        story.say(
            f"The traffic has ended with status {child.returncode}; {story.home / 'traffic.log'} has the whole story."
        )
        return False
    report = json.loads(text)
    return counted(story, case, report)


def sent(home: Path, case: str) -> int:
    """The last day that was sent; -1 for none."""
    try:
        return json.loads((home / SENT).read_text()).get(case, -1)
    except FileNotFoundError:
        return -1


def _note(home: Path, case: str, day: int) -> None:
    known = json.loads((home / SENT).read_text()) if (home / SENT).exists() else {}
    beside = home / f".{SENT}.{os.getpid()}"
    beside.write_text(json.dumps(known | {case: day}))
    os.replace(beside, home / SENT)
