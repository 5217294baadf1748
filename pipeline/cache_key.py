"""The code's part of a stage's cache key: a change in what the code does reruns the stages that use it and no others.

TFX's own key covers a stage's inputs and parameters, but not the code behind an importable name. The digest of that code is
therefore added as a parameter. It covers the syntax tree without docstrings, so comments, docstrings, blank lines and
formatting do not change it.
"""

import ast
import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.checkout import ROOT

if TYPE_CHECKING:
    from tfx.proto.orchestration.pipeline_pb2 import Pipeline  # a plan is made without TFX

# The catalog only lists the use cases; their values reach a stage as parameters.
NAMES_ONLY = {"models.catalog"}
OURS = {"components", "models", "pipeline", "serving"}
PARAMETER = "code_digest"
LOCK = ROOT / "uv.lock"


def add_code_digests(ir: "Pipeline", modules: Mapping[str, Sequence[str]], salt: str) -> None:
    """Give each node of the compiled graph a parameter with the digest of its modules' code, so that its cache key has it.

    Args:
        modules: Names of each node's modules, by node.
        salt: Appended to every digest; a new salt makes every stage run again.
    """
    for node in (compiled_node.pipeline_node for compiled_node in ir.nodes):
        text = digest(*modules[node.node_info.id]) + salt
        node.parameters.parameters[PARAMETER].field_value.string_value = text


def digest(*modules: str) -> str:
    """Hash the code of the named modules and of all our modules that they import, at any depth.

    The sources are parsed, not imported.
    """
    total = hashlib.sha256()
    for name, path in sorted(closure(*modules).items()):
        total.update(name.encode() + b"\0" + _tree_digest(path))
    return total.hexdigest()[:16]


def lock_digest(path: Path = LOCK) -> str:
    """SHA-256 of the lock file, which pins every package to its hash; empty outside a checkout."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def closure(*modules: str) -> dict[str, Path]:
    """Return the files of the named modules and of our modules that they import at any depth, by module name."""
    ours = OURS | {name.split(".")[0] for name in modules}
    files: dict[str, Path] = {}
    pending = list(modules)
    while pending:
        name = pending.pop()
        path = _source(name) if name.split(".")[0] in ours else None
        if path is None or name in files or name in NAMES_ONLY:
            continue
        files[name] = path
        pending += _imports(path)
    return files


def _source(name: str) -> Path | None:
    """Return the file of a module; None for a name defined inside a module.

    Only the top-level package is looked up, so no code is executed.
    """
    top, *rest = name.split(".")
    spec = find_spec(top)
    if spec is None or not spec.origin:
        return None
    path = Path(spec.origin).parent.joinpath(*rest)
    return next((f for f in (path.with_suffix(".py"), path / "__init__.py") if f.is_file()), None)


def _imports(path: Path) -> tuple[str, ...]:
    return _parse(path, _stamp(path))[0]


def _tree_digest(path: Path) -> bytes:
    return _parse(path, _stamp(path))[1]


def _stamp(path: Path) -> tuple[int, int, int]:
    """Cache key of a file's content: inode, modification time and size, so that each version of a file is parsed once."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


@lru_cache(maxsize=1024)
def _parse(path: Path, _: tuple[int, int, int]) -> tuple[tuple[str, ...], bytes]:
    """Return the names that a module imports, and the hash of its syntax tree without docstrings."""
    tree = ast.parse(path.read_text())
    imports: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from models import training` imports a module, `from models.training.entry_point import fit` a function.
            imports += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            # String statements such as docstrings have no effect. A body that is only a docstring becomes empty.
            node.body = [line for line in node.body if not _is_text(line)]
    return tuple(imports), hashlib.sha256(ast.dump(tree, annotate_fields=False).encode()).digest()


def _is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
