"""A note's code as HTML: the lines as they lie in the file now, with their numbers."""

from collections.abc import Sequence
from typing import Protocol

from markupsafe import Markup

from tour import ask


class Sourced(Protocol):
    """What has code."""

    @property
    def source(self) -> Sequence[tuple[int, str]]:
        """Lines with their numbers."""


def code(note: Sourced, lines: int = ask.CODE_LINES) -> Markup:
    """The first lines of a note's code, in classes of pygments'."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    parts = []
    for run in ask.runs_of_lines(note.source[:lines]):
        how = HtmlFormatter(linenos="inline", linenostart=run[0][0])
        parts.append(highlight("\n".join(text for _, text in run), PythonLexer(stripnl=False), how))
    return Markup("".join(parts))  # pygments escapes the code


def styles() -> str:
    """What the classes look like on a page that has no style sheet of its own."""
    from pygments.formatters import HtmlFormatter

    return HtmlFormatter().get_style_defs(".highlight")
