"""README and docs: every command and flag in them exists, every file that they name is there, and no command is left out."""

import re
from pathlib import Path

import pytest
import typer
from support.command import ROOT

from cli.main import app

PAGES = {str(path.relative_to(ROOT)): path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
COMMAND = re.compile(r"(?:^|`|\$ )showcase ([a-z]+)([^\n`]*)", re.MULTILINE)
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
NAMED = re.compile(r"`((?:benchmarks|components|docs|kubernetes|models|pipeline|serving|tests|tour)/[\w./-]+)`")
BENCHMARK = re.compile(r"(?<![\w.])benchmarks\.([a-z_]+)(?!\.\w)")


def faults(page: Path) -> list[str]:
    """What a page names and is not there."""
    text, known = page.read_text(), typer.main.get_command(app).commands
    found = []
    for name, rest in COMMAND.findall(text):
        if name not in known:
            found.append(f"there is no command {name}")
            continue
        flags = {flag for option in known[name].params for flag in (*option.opts, *option.secondary_opts)}
        # What follows a comment sign or two spaces says what the command is for.
        said = re.split(r"\s#|\s{2,}(?=[a-z])", rest.strip())[0]
        found += [f"{name} has no {flag}" for flag in FLAG.findall(said) if flag not in flags | {"--help"}]
    found += [f"no file {link}" for link in LINK.findall(text) if not (page.parent / link).exists()]
    found += [f"no file {name}" for name in NAMED.findall(text) if not (ROOT / name).exists()]
    modules = {one.stem for one in (ROOT / "benchmarks").iterdir()}
    return found + [f"no benchmark {name}" for name in BENCHMARK.findall(text) if name not in modules]


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_names_is_there(name: str) -> None:
    assert faults(PAGES[name]) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("`showcase rnu fraud`", "there is no command rnu"),
        ("showcase run fraud --sett a=b   # tries", "run has no --sett"),
        ("[here](gone.md)", "no file gone.md"),
        ("`models/gone.py`", "no file models/gone.py"),
        ("`python -m benchmarks.gone`", "no benchmark gone"),
    ],
)
def test_what_is_not_there_is_found(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "page.md").write_text(text + "\n")
    assert faults(tmp_path / "page.md") == [fault]


def test_the_readme_names_every_command_and_every_page() -> None:
    text = PAGES["README.md"].read_text()
    told = {name for name, _ in COMMAND.findall(text)}
    assert set(typer.main.get_command(app).commands) <= told
    assert {name for name in PAGES if name != "README.md"} <= set(LINK.findall(text))
