"""Jinja templates and their filters; every value from data is escaped."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from serving.drift.profiles.windows import format_window
from tour import highlight

HERE = Path(__file__).parent


def create_environment(nav: Sequence[tuple[str, str]]) -> Environment:
    """Create the Jinja environment with the tour's templates and those shared with the evidence bundle."""
    environment = Environment(
        loader=FileSystemLoader([HERE / "templates", HERE.parent]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.globals["nav"] = nav
    environment.filters["code"] = highlight.highlight_source
    environment.filters.update(ticks=format_code_spans, short=format_number, window=format_window)
    return environment


class PageRenderer:
    """Render a template as a response: ``page(request, name, active=..., **values)``."""

    def __init__(self, nav: Sequence[tuple[str, str]]) -> None:
        self.templates = create_environment(nav)

    def __call__(self, request: Request, name: str, active: str = "", status: int = 200, **values: Any) -> HTMLResponse:
        text = self.templates.get_template(name).render(request=request, active=active, **values)
        return HTMLResponse(text, status)


def format_code_spans(text: str) -> Markup:
    """Format text in backticks as code."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts))


def format_number(value: float) -> str:
    """Format a number with three significant digits, or as an integer from 100; below 0.001 with an exponent."""
    return (
        f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 0.001 or not value else f"{value:.1e}"
    )
