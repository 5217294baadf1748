"""The Presenter page: a route of timed steps through all other pages, with a clock, and as a printed page."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from tour import notes

router = APIRouter()


@dataclass(frozen=True)
class Step:
    """A step of the route.

    Attributes:
        title: What it is about.
        minutes: How long it takes.
        page: What to open.
        show, say: What to show there, and what to say.
        questions: Ids of the questions that it answers.
        begins: Seconds from the start of the route.
    """

    title: str
    minutes: float
    page: str
    show: str
    say: str
    questions: tuple[str, ...]
    begins: int = 0

    @property
    def seconds(self) -> int:
        """How long it takes."""
        return round(60 * self.minutes)


@cache
def route() -> tuple[Step, ...]:
    """The steps in their order."""
    told, begins, steps = tomllib.loads(Path(__file__).with_name("presenter.toml").read_text())["step"], 0, []
    for one in told:
        steps.append(Step(**{**one, "questions": tuple(one["questions"])}, begins=begins))
        begins += steps[-1].seconds
    return tuple(steps)


@router.get("/presenter", response_class=HTMLResponse)
async def presenter(request: Request) -> HTMLResponse:
    """The route."""
    steps, asked = route(), notes.questions()
    total = sum(one.seconds for one in steps)
    return request.app.state.page(request, "presenter.html", active="Presenter", steps=steps, asked=asked, total=total)
