"""The source code of a note as HTML, with the file's line numbers."""

from collections.abc import Sequence
from typing import Protocol

from markupsafe import Markup

from tour import ask


class HasSource(Protocol):
    @property
    def source(self) -> Sequence[tuple[int, str]]:
        """Line numbers and lines."""


def highlight_source(note: HasSource, lines: int = ask.CODE_LINES) -> Markup:
    """The first lines of a note's code as HTML with Pygments' CSS classes."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    parts = []
    for run in ask.split_consecutive(note.source[:lines]):
        formatter = HtmlFormatter(linenos="inline", linenostart=run[0][0])
        parts.append(highlight("\n".join(text for _, text in run), PythonLexer(stripnl=False), formatter))
    return Markup("".join(parts))  # pygments escapes the code


def style_sheet() -> str:
    """Pygments' style sheet, for a page without one of its own."""
    from pygments.formatters import HtmlFormatter

    return HtmlFormatter().get_style_defs(".highlight")
