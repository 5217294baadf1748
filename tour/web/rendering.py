"""Templates, and how values become HTML: all that comes from data is escaped."""

import base64
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tour import highlight

HERE = Path(__file__).parent


def environment(nav: Sequence[tuple[str, str]]) -> Environment:
    """The templates of the tour, and of what it shares with the bundle of evidence."""
    made = Environment(
        loader=FileSystemLoader([HERE / "templates", HERE.parent]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    made.globals["nav"] = nav
    made.filters["drawing"] = drawing
    made.filters["code"] = highlight.highlight_source
    made.filters.update(ticks=ticks, short=short, window=window)
    return made


class Pages:
    """Renders a template as an answer: ``page(request, name, active=..., **values)``."""

    def __init__(self, nav: Sequence[tuple[str, str]]) -> None:
        self.templates = environment(nav)

    def __call__(self, request: Request, name: str, active: str = "", status: int = 200, **values: Any) -> HTMLResponse:
        text = self.templates.get_template(name).render(request=request, active=active, **values)
        return HTMLResponse(text, status)


def drawing(svg: str) -> Markup:
    """An SVG as a picture: its own styles hold inside it, and the page's policy allows none in the page."""
    return Markup('<img class="drawing" alt="" src="data:image/svg+xml;base64,{}">').format(
        base64.b64encode(svg.encode()).decode()
    )


def ticks(text: str) -> Markup:
    """Text with what stands between backticks as code."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts))


def short(value: float) -> str:
    """A number in as many digits as say something, and without an exponent."""
    return (
        f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 0.001 or not value else f"{value:.1e}"
    )


def window(number: int, daily: bool) -> str:
    """A window of served rows by its day, where windows are days."""
    return (
        (date(1970, 1, 1) + timedelta(days=number)).isoformat()
        if daily and 0 <= number < 100_000
        else f"window {number}"
    )
