"""Text on the terminal is printed literally: only one module makes consoles, and no code asks rich to parse markup."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command import ROOT

FOLDERS = ("cli", "components", "models", "pipeline", "serving", "tour")
FACTORY = "pipeline/terminal.py"
# Calls that parse markup; `track` describes its bar with markup.
FORBIDDEN = {"Console", "from_markup", "render_str", "rprint"}


def find_markup(tree: ast.AST) -> Iterator[int]:
    """Yield the lines of calls that could parse a text as markup."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "rich" and any(a.name == "print" for a in node.names):
            yield node.lineno
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        asks_for_markup = any(
            word.arg in ("markup", "emoji") and isinstance(word.value, ast.Constant) and word.value.value
            for word in node.keywords
        )
        is_described_by_data = name == "track" and not all(isinstance(value, ast.Constant) for value in node.args[1:2])
        if name in FORBIDDEN or asks_for_markup or is_described_by_data:
            yield node.lineno


def test_only_the_factory_makes_consoles_and_no_text_is_parsed_as_markup() -> None:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if "node_modules" not in path.parts]
    places = {str(path.relative_to(ROOT)): list(find_markup(ast.parse(path.read_text()))) for path in files}
    assert {name: lines for name, lines in places.items() if lines and name != FACTORY} == {}
    assert places[FACTORY]


@pytest.mark.parametrize(
    "text",
    [
        "Console().print(reason)",
        "Text.from_markup(reason)",
        "console.print(reason, markup=True)",
        "track(rows, reason)",
        "from rich import print",
    ],
)
def test_code_that_parses_markup_is_found(text: str) -> None:
    assert list(find_markup(ast.parse(text))) == [1]


def test_literal_text_is_not_found() -> None:
    code = 'make_console().print(Text(reason, "red"), markup=False)\ntrack(rows, "Evidence", console=console)'
    assert not list(find_markup(ast.parse(code)))
    assert Path(ROOT, FACTORY).is_file()
