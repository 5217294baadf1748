"""README and other pages: every command, flag, file and benchmark in them exists, and the README names every command."""

import json
import re
from pathlib import Path

import pytest
import typer
from support.command import ROOT

from cli.main import app

PAGES = {
    str(path.relative_to(ROOT)): path for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))
}
TARGET = re.compile(r"(?:^|`|\$ )make ([a-z-]+)((?: [a-z-]+)*)(?=`| *#|  |$)", re.MULTILINE)
COMMAND = re.compile(r"(?:^|`|\$ )showcase ([a-z]+)([^\n`]*)", re.MULTILINE)
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
PATH = re.compile(r"`((?:benchmarks|components|docs|kubernetes|models|pipeline|serving|tests|tour)/[\w./-]+)`")
TESTS = re.compile(r"pytest [^\n`]*?(tests/[\w/]+\.py)")
BENCHMARK = re.compile(r"(?<![\w.])benchmarks\.([a-z_]+)(?!\.\w)")


def find_faults(page: Path) -> list[str]:
    """List commands, flags, targets of make, files and benchmarks that a page names and that do not exist."""
    text, commands = page.read_text(), typer.main.get_command(app).commands
    problems = []
    for name, rest in COMMAND.findall(text):
        if name not in commands:
            problems.append(f"there is no command {name}")
            continue
        flags = {flag for option in commands[name].params for flag in (*option.opts, *option.secondary_opts)}
        # Text after a comment sign or two spaces describes the command.
        usage = re.split(r"\s#|\s{2,}(?=[a-z])", rest.strip())[0]
        problems += [f"{name} has no {flag}" for flag in FLAG.findall(usage) if flag not in flags | {"--help"}]
    problems += [f"no file {link}" for link in LINK.findall(text) if not (page.parent / link).exists()]
    problems += [
        f"no file {name}" for name in (*PATH.findall(text), *TESTS.findall(text)) if not (ROOT / name).exists()
    ]
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named_targets = [name for first, rest in TARGET.findall(text) for name in (first, *rest.split())]
    problems += [f"make has no target {name}" for name in named_targets if name not in targets]
    modules = {path.stem for path in (ROOT / "benchmarks").iterdir()}
    return problems + [f"no benchmark {name}" for name in BENCHMARK.findall(text) if name not in modules]


@pytest.mark.parametrize("name", PAGES)
def test_commands_files_and_benchmarks_of_a_page_exist(name: str) -> None:
    assert find_faults(PAGES[name]) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("`showcase rnu fraud`", "there is no command rnu"),
        ("showcase run fraud --sett a=b   # tries", "run has no --sett"),
        ("[here](gone.md)", "no file gone.md"),
        ("`make setup gone`", "make has no target gone"),
        ("make gone   # does it", "make has no target gone"),
        ("`models/gone.py`", "no file models/gone.py"),
        ("`python -m benchmarks.gone`", "no benchmark gone"),
        ("python -m pytest -m '' tests/test_gone.py", "no file tests/test_gone.py"),
    ],
)
def test_missing_names_are_found(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "page.md").write_text(text + "\n")
    assert find_faults(tmp_path / "page.md") == [fault]


def test_the_readme_names_every_command_and_every_page() -> None:
    text = PAGES["README.md"].read_text()
    named = {name for name, _ in COMMAND.findall(text)}
    assert set(typer.main.get_command(app).commands) <= named
    assert {name for name in PAGES if name != "README.md"} <= set(LINK.findall(text))


def test_the_third_party_page_has_the_locked_packages_of_the_browser() -> None:
    rows = re.findall(r"^\| \[([^]]+)\]\S* \| (\S+) \| (\S+) \|", PAGES["THIRD_PARTY.md"].read_text(), re.MULTILINE)
    packages = json.loads((ROOT / "serving" / "browser" / "package-lock.json").read_text())["packages"]
    locked = {
        name.removeprefix("node_modules/"): (entry["version"], entry["license"])
        for name, entry in packages.items()
        if name  # the empty name is the page itself
    }
    assert {name: (version, licence) for name, version, licence in rows} == locked


def test_the_change_log_begins_with_what_is_not_released() -> None:
    headings = re.findall(r"^## (.*)$", PAGES["CHANGELOG.md"].read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert all(re.fullmatch(r"\[?\d+\.\d+\.\d+\]? - \d{4}-\d\d-\d\d", heading) for heading in headings[1:])
