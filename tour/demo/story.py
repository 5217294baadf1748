"""The demonstration: trained, served, drifted, noticed, decided, trained again and swapped under traffic, without a hand.

Each part leaves what it did in the home, and is passed over where it finds it done: so an interrupted demonstration goes on,
and a second one repeats neither a training nor an answer to a drift.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from models.catalog import CASES
from pipeline import command, decisions, store
from pipeline import runtime as runtimes
from tour.demo import drift, refusal, traffic
from tour.demo.serving import served, toured

INTERRUPTED = 130


@dataclass
class Story:
    """What has come of it so far.

    Attributes:
        home: Folder of all state.
        tracking: Address of the experiment tracker.
        headless: Whether standard output is kept for the summary.
        console: Where progress is told.
        changes: Settings for the first trainings.
        seconds: Of each part.
        told: What each part found.
    """

    home: Path
    tracking: str
    headless: bool
    console: Console
    changes: Mapping[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    told: dict[str, Any] = field(default_factory=lambda: {"runs": [], "traffic": {}, "drift": {}, "failed": 0})

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Tells that a part begins, and keeps how long it took."""
        self.console.print(f"\n[bold]{name}[/bold]")
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - began, 1)

    def run(self, name: str, **changes: str) -> store.Run:
        """Runs a case's pipeline.

        Raises:
            KeyboardInterrupt: if it was interrupted.
        """
        mine = {key: value for key, value in self.changes.items() if key in settings(name)} | changes
        last = command.run(name, self.home, as_json=False, quiet=self.headless, tracking=self.tracking, changes=mine)
        if last.state == "interrupted":
            raise KeyboardInterrupt
        return last

    def say(self, text: str) -> None:
        """A line for people."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def demo(home: Path, headless: bool, tracking: str, changes: Mapping[str, str]) -> int:
    """Plays all of it; the exit code is 0 only if every part ended as it should.

    Args:
        home: Folder of all state.
        headless: Print a JSON summary at the end, and do not show the tour.
        tracking: Address of the experiment tracker.
        changes: Settings by name, for the first trainings of the cases that have them.

    Raises:
        ValueError: for a setting that no case has.
    """
    # A descriptor of its own: while stages run, standard error belongs to the log.
    console = Console(file=os.fdopen(os.dup(2), "w")) if headless else Console()
    story, began = Story(home, tracking, headless, console, changes), time.monotonic()
    if unknown := set(story.changes) - set().union(*map(settings, CASES)):
        raise ValueError(f"No case has a setting '{sorted(unknown)[0]}'.")
    try:
        ok = _played(story, began)
    except KeyboardInterrupt:
        story.say(f"Interrupted; `showcase demo --home {home}` goes on from here, and what is done is not done again.")
        return INTERRUPTED
    if headless:
        told = {"ok": ok, "seconds": round(time.monotonic() - began, 1), "parts": story.seconds, **story.told}
        print(json.dumps(told, indent=1))
    return int(not ok)


def _played(story: Story, began: float) -> bool:
    with story.part("Both pipelines, from raw spans to a pushed model"):
        trained = all([_trained(story, name) for name in CASES])
    if not trained:
        story.say("Not every case was pushed, so nothing is served; `showcase status` says why.")
        return False
    with served(story) as place:
        ok = all([traffic.usual(story, case, place) for case in CASES.values()])
        ok = all([drift.drift(story, case, place) for case in CASES.values() if case.has("demo")]) and ok
        ok = refusal.refusal(story) and ok
        _summary(story, ok, time.monotonic() - began)
        if not story.headless:
            toured(story)
    return ok


def _trained(story: Story, name: str) -> bool:
    """Runs a case's pipeline, unless its model has been judged in service since: newer data decide from then on."""
    runtime = runtimes.local(story.home)
    if decisions.all_of(runtime, name):
        last = [run for run in store.runs(runtime.metadata, name) if run.state == "pushed"][-1]
        story.say(f"{name}: in service as version {last.facts['version']}; it is not trained on the first data again.")
    else:
        last = story.run(name)
    story.told["runs"].append(asdict(last))
    return last.state == "pushed"


def settings(name: str) -> set[str]:
    """Names of a case's settings."""
    return {key for group in CASES[name].settings.values() for key in group}


def _summary(story: Story, ok: bool, seconds: float) -> None:
    from pipeline import status

    story.told["served"] = {name: int(folder.name) for name in CASES if (folder := status.served(story.home, name))}
    story.console.print(f"\n[bold]{'All of it worked' if ok else 'Not all of it worked'}[/bold] in {seconds:.0f} s")
    for name, version in story.told["served"].items():
        story.say(f"  {name}: version {version} is served")
    for name, one in story.told["drift"].items():
        story.say(f"  {name}: {one.get('line', '')}")
    story.say(f"  failed requests: {story.told['failed']}")
    for name, took in story.seconds.items():
        story.say(f"  {took:6.1f} s  {name}")
