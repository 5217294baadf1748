"""Where tests lie: in folders that mirror the product's, each module by itself."""

import ast
from pathlib import Path

import pytest
from support.command import ROOT

TESTS = ROOT / "tests"
OWN = {"support", "repository", "kube-apiserver"}  # what tests share, what they say of the whole, and a Go module
MODULES = sorted(TESTS.rglob("test_*.py"))


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES}), ids=lambda path: path.name)
def test_folder_of_tests_has_the_name_of_a_folder_of_the_product(folder: Path) -> None:
    name = folder.relative_to(TESTS)
    assert name.parts[0] in OWN or (ROOT / name).is_dir(), f"{name} mirrors no folder: move its tests."


def test_no_test_module_imports_another() -> None:
    for path in TESTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            wrong = [name for name in names if name.rpartition(".")[2].startswith("test_")]
            assert not wrong, f"{path}:{node.lineno} imports {wrong[0]}: move what is shared to tests/support."
