"""Parts of the tests that jobs run at the same time: every test is in exactly one, and the workflow runs all of them."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
import yaml
from support.command import ROOT

PART = re.compile(r"^test-(\w+): setup .*\n\t@\$\(call run_all_tests,(.+)\)$", re.MULTILINE)
IGNORE = "--ignore="
PARTS = {name: words.split() for name, words in PART.findall((ROOT / "Makefile").read_text())}
FILES = [str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")]


def find_faults(parts: Mapping[str, Iterable[str]], files: Iterable[str]) -> dict[str, list[str]]:
    """Return the test files that are not in exactly one part, with their parts."""

    def is_in(file: str, words: Iterable[str]) -> bool:
        folders = {str(folder) for folder in Path(file).parents}
        ignored = {word.removeprefix(IGNORE) for word in words if word.startswith(IGNORE)}
        return bool(folders & set(words)) and not folders & ignored

    places = {file: [name for name, words in parts.items() if is_in(file, words)] for file in files}
    return {file: names for file, names in places.items() if len(names) != 1}


def test_every_test_is_in_exactly_one_part() -> None:
    assert find_faults(PARTS, FILES) == {}


def test_every_folder_of_a_part_exists() -> None:
    folders = {word.removeprefix(IGNORE) for words in PARTS.values() for word in words}
    assert folders and not {name for name in folders if not (ROOT / name).is_dir()}


@pytest.mark.parametrize(
    ("parts", "faults"),
    [
        ({"x": ["tests/a"]}, {"tests/b/test_1.py": []}),
        ({"x": ["tests/a", "tests/b"], "y": ["tests/b"]}, {"tests/b/test_1.py": ["x", "y"]}),
        ({"x": ["tests", "--ignore=tests/b"], "y": ["tests/b"]}, {}),
    ],
)
def test_files_in_no_part_or_in_two_are_found(parts: dict[str, list[str]], faults: dict[str, list[str]]) -> None:
    assert find_faults(parts, ["tests/a/test_2.py", "tests/b/test_1.py"]) == faults


def test_ci_and_the_workflow_know_the_same_parts() -> None:
    (names,) = re.findall(r"\^\(all\|([\w|]+)\)\$ \]\]; then\n    echo", (ROOT / ".ci" / "run").read_text())
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert names.split("|") == workflow["jobs"]["part"]["strategy"]["matrix"]["part"] == ["lint", *PARTS]
