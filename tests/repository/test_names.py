"""Names by the rules of this repository: nouns for things, verbs for functions, one name for one thing."""

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator

import pytest
from support.command import ROOT

from models import catalog

FOLDERS = ("benchmarks", "cli", "components", "models", "pipeline", "serving", "tests", "tour")
# Pronouns and participles that name no thing.
BANNED = {
    "asked",
    "beside",
    "found",
    "here",
    "kept",
    "known",
    "made",
    "mine",
    "one",
    "said",
    "seen",
    "told",
    "usual",
    "wanted",
    "worthy",
}
# A case has the same file names as every other case; a package's parts are named after its folder.
CASES = {case.package.rpartition(".")[2] for case in catalog.CASES.values()} | {"tiny_case", "bare"}
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if "node_modules" not in path.parts)
PRODUCT = [path for path in FILES if path.relative_to(ROOT).parts[0] not in ("tests", "benchmarks")]


def bound_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Names that a module binds, with their lines: variables, parameters, functions, classes.

    Annotated fields of classes are left out: many are keys of a stored format.
    """
    fields = {
        line.target
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for line in node.body
        if isinstance(line, ast.AnnAssign)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node not in fields:
            yield node.id, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno


def banned_names(source: str) -> list[str]:
    """Describe every banned name that a module binds, and every module function that is called ``of``."""
    tree = ast.parse(source)
    names = [f"line {line}: {name}" for name, line in bound_names(tree) if name.strip("_") in BANNED]
    return names + [
        f"line {node.lineno}: of" for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "of"
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_module_binds_a_banned_name(folder: str) -> None:
    files = [path for path in FILES if path.relative_to(ROOT).parts[0] == folder]
    violations = {str(path.relative_to(ROOT)): names for path in files if (names := banned_names(path.read_text()))}
    assert not violations


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("one = 1", ["line 1: one"]),
        ("def load(told):\n    pass", ["line 1: told"]),
        ("values = [found for found in ()]", ["line 1: found"]),
        ("def of(x):\n    return x", ["line 1: of"]),
        ("class Base:\n    def of(self):\n        return 1", []),
        ("class Estimate:\n    usual: float", []),
        ("version = 1", []),
    ],
)
def test_banned_names_are_reported_with_their_lines(source: str, names: list[str]) -> None:
    assert banned_names(source) == names


def test_modules_of_the_product_have_distinct_names() -> None:
    modules = [path for path in PRODUCT if path.stem not in ("__init__", "__main__") and not CASES & set(path.parts)]
    counts = Counter(path.stem for path in modules)
    collisions = {name for name, count in counts.items() if count > 1}
    assert not {str(path.relative_to(ROOT)) for path in modules if path.stem in collisions}


def test_classes_of_the_product_have_distinct_names() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in PRODUCT:
        for node in ast.parse(path.read_text()).body:
            # Every component of TFX has an executor of its own.
            named = isinstance(node, ast.ClassDef) and not node.name.startswith("_") and node.name != "Executor"
            if named and not CASES & set(path.parts):
                places[node.name].append(str(path.relative_to(ROOT)))
    assert not {name: files for name, files in places.items() if len(files) > 1}


def test_exceptions_end_in_error() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in PRODUCT
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        and any(base.endswith(("Error", "Exception")) for base in map(ast.unparse, node.bases))
        and not node.name.endswith("Error")
    ]
    assert not wrong
