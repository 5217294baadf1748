"""Layout of the tests: folders mirror those of the product, and test modules are independent."""

import ast
from pathlib import Path

import pytest
from support.command import ROOT
from support.order import FIRST_FILES

TESTS = ROOT / "tests"
OWN = {"support", "repository", "kube-apiserver"}  # shared code, tests of the repository itself, and a Go module
MODULES = sorted(TESTS.rglob("test_*.py"))


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES}), ids=lambda path: path.name)
def test_folders_of_tests_mirror_folders_of_the_product(folder: Path) -> None:
    name = folder.relative_to(TESTS)
    assert name.parts[0] in OWN or (ROOT / name).is_dir(), (
        f"tests/{name} mirrors no folder of the product: move its tests."
    )


def test_no_test_module_imports_another() -> None:
    for path in TESTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            imported_tests = [name for name in names if name.rpartition(".")[2].startswith("test_")]
            assert not imported_tests, (
                f"{path}:{node.lineno} imports {imported_tests[0]}: move shared code to tests/support."
            )


def test_the_files_that_are_run_first_exist() -> None:
    assert all((TESTS / name).is_file() for name in FIRST_FILES)
