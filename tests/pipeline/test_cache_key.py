"""A code digest covers executed code at any import depth, ignores wording, and is computed without importing the code."""

import ast
import sys
from pathlib import Path

import pytest
from support.command import ROOT

from pipeline import cache_key
from pipeline.plan import read_schema

BOMB = 'raise RuntimeError("imported")\n'
FAKE = {
    "__init__.py": "",
    "stage.py": BOMB + "import fakecode.plain\nfrom fakecode import named\nfrom fakecode.holder import function\n",
    "plain.py": BOMB,
    "named.py": BOMB + "def later():\n    from fakecode.sub import deep\n",
    "holder.py": BOMB + "def function(): ...\n",
    "unrelated.py": BOMB,
    "sub/__init__.py": "",
    "sub/deep.py": BOMB + "import fakecode.stage  # a circle\nimport json, numpy\n",
}
USED = ("stage.py", "plain.py", "named.py", "holder.py", "sub/__init__.py", "sub/deep.py")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package named ``fakecode``, first on the import path."""
    for name, text in FAKE.items():
        path = tmp_path / "fakecode" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "fakecode"


def test_closure_follows_every_form_of_import(fake: Path) -> None:
    files = cache_key.closure("fakecode.stage")
    names = {"stage", "plain", "named", "holder", "sub", "sub.deep"}
    assert {f"fakecode.{name}" for name in names} <= set(files) and "fakecode.unrelated" not in files
    assert set(files) - {f"fakecode.{name}" for name in names} <= {"fakecode"}
    assert files["fakecode.sub.deep"] == fake / "sub" / "deep.py"


def test_digest_imports_nothing(fake: Path) -> None:
    before = set(sys.modules)
    cache_key.digest("fakecode.stage")  # importing any of its modules would raise
    assert not {name for name in set(sys.modules) - before if name.startswith("fakecode")}


@pytest.mark.parametrize("name", USED)
def test_added_statement_in_a_used_module_changes_the_digest(fake: Path, name: str) -> None:
    before = cache_key.digest("fakecode.stage")
    assert cache_key.digest("fakecode.stage") == before
    (fake / name).write_text(FAKE[name] + "limit = 3\n")
    assert cache_key.digest("fakecode.stage") != before
    (fake / name).write_text(FAKE[name])
    assert cache_key.digest("fakecode.stage") == before


@pytest.mark.parametrize("name", USED)
def test_docstring_comment_and_blank_line_do_not_change_the_digest(fake: Path, name: str) -> None:
    before = cache_key.digest("fakecode.stage")
    (fake / name).write_text(f'"""What it is for."""\n\n# Why.\n\n{FAKE[name]}\n')
    assert cache_key.digest("fakecode.stage") == before


def test_unused_module_changes_the_digest_only_once_it_is_imported(fake: Path) -> None:
    before = cache_key.digest("fakecode.stage")
    (fake / "unrelated.py").write_text("x = 1\n")
    (fake / "added.py").write_text("x = 1\n")
    (fake / "schema.pbtxt").write_text("feature {}")
    assert cache_key.digest("fakecode.stage") == before
    (fake / "plain.py").write_text(BOMB + "import fakecode.added\n")
    assert cache_key.digest("fakecode.stage") != before


def test_moved_module_changes_only_digests_of_its_importers(fake: Path) -> None:
    before = {name: cache_key.digest(f"fakecode.{name}") for name in ("stage", "holder", "unrelated")}
    (fake / "plain.py").rename(fake / "sub" / "plain.py")
    (fake / "stage.py").write_text(FAKE["stage.py"].replace("fakecode.plain", "fakecode.sub.plain"))
    after = {name: cache_key.digest(f"fakecode.{name}") for name in before}
    assert {name for name in before if after[name] != before[name]} == {"stage"}


def test_digest_depends_on_modules_and_not_on_their_order(fake: Path) -> None:
    assert cache_key.digest() == cache_key.digest() != cache_key.digest("fakecode.plain")
    assert cache_key.digest("fakecode.plain", "fakecode.named") == cache_key.digest("fakecode.named", "fakecode.plain")
    assert cache_key.closure("fakecode.nowhere") == {} or set(cache_key.closure("fakecode.nowhere")) == {"fakecode"}


def test_closure_excludes_libraries(fake: Path) -> None:
    assert {name.split(".")[0] for name in cache_key.closure("fakecode.stage")} == {"fakecode"}
    assert {
        name.split(".")[0] for name in cache_key.closure("components.training.edge.lite_exporter")
    } <= cache_key.OURS


def test_our_modules_use_no_relative_imports() -> None:
    """The digest does not follow relative imports."""
    for path in (path for top in sorted(cache_key.OURS) for path in (ROOT / top).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}:{node.lineno} is relative"


def test_read_schema_ignores_comments(tmp_path: Path) -> None:
    path = tmp_path / "schema.pbtxt"
    path.write_text('feature { name: "amount" type: FLOAT }\n')
    before = read_schema(path)
    path.write_text('# Kept by hand.\n\nfeature {\n  name: "amount"  # in EUR\n  type: FLOAT\n}\n')
    assert read_schema(path) == before
    path.write_text('feature { name: "amount" type: INT }\n')
    assert read_schema(path) != before


def test_lock_digest_is_the_sha256_or_empty(tmp_path: Path) -> None:
    lock = tmp_path / "uv.lock"
    assert cache_key.lock_digest(lock) == ""
    lock.write_bytes(b"abc")
    assert cache_key.lock_digest(lock) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
