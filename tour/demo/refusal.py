"""A candidate that is no good, so that a gate is seen refusing: the cheapest case's network after one step of training."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from models.catalog import CASES
from pipeline import runtime as runtimes
from pipeline import store

if TYPE_CHECKING:
    from tour.demo.story import Story

UNTRAINED = {"max_steps": "1"}


def refusal(story: "Story") -> bool:
    """Trains it, unless that was done before; whether it was refused."""
    runtime = runtimes.local(story.home)
    name = next((case.name for case in CASES.values() if not case.has("demo")), next(iter(CASES)))
    with story.part(f"{name}: a candidate after one step of training meets the gates"):
        past = store.runs(runtime.metadata, name)
        refused = [one for one in past if one.state == "refused" and not one.facts.get("decision")]
        if refused:
            last = refused[-1]
            story.say(f"refused before: {last.reason}")
        else:
            last = story.run(name, **UNTRAINED)
    story.told["refused"] = asdict(last)
    return last.state == "refused"
