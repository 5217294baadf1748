"""The Presenter page: a script of timed steps through the other pages, with a clock; it prints as well."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from tour import notes

router = APIRouter()


@dataclass(frozen=True)
class RouteStep:
    """A timed step of the presentation.

    Attributes:
        title: Title of the step.
        minutes: Duration.
        page: Path of the page to open.
        show, say: What to show on the page, and what to say.
        questions: Ids of the interview questions that it answers.
        begins: Seconds from the start of the presentation.
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
        return round(60 * self.minutes)


@cache
def load_route() -> tuple[RouteStep, ...]:
    """Load the steps in their order from ``presenter.toml``."""
    tables, begins, steps = tomllib.loads(Path(__file__).with_name("presenter.toml").read_text())["step"], 0, []
    for table in tables:
        steps.append(RouteStep(**{**table, "questions": tuple(table["questions"])}, begins=begins))
        begins += steps[-1].seconds
    return tuple(steps)


@router.get("/presenter", response_class=HTMLResponse)
async def presenter(request: Request) -> HTMLResponse:
    steps, questions = load_route(), notes.questions()
    values = {"steps": steps, "questions": questions, "total": sum(step.seconds for step in steps)}
    return request.app.state.page(request, "presenter.html", active="Presenter", **values)
