"""Digests of the code a stage uses, so that a change of it invalidates that stage and no other."""

import ast
import hashlib
from importlib.util import find_spec
from pathlib import Path

# The catalog only names the cases; what it says of them reaches a stage as parameters.
NAMES_ONLY = {"models.catalog"}
OURS = {"components", "models", "pipeline", "serving"}
LOCK = Path(__file__).parent.parent / "uv.lock"


def digest(*modules: str) -> str:
    """A short hash over the named modules and all of our modules that they import, at any depth.

    The sources are read, not imported. TFX's cache key does not see the code behind an importable name;
    this closes that gap.
    """
    total = hashlib.sha256()
    for name, path in sorted(closure(*modules).items()):
        total.update(name.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()[:16]


def lock(path: Path = LOCK) -> str:
    """SHA-256 of the lock file, which names every package to its hash; empty where the code lies outside a checkout."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def closure(*modules: str) -> dict[str, Path]:
    """The named modules and what of ours they import, name to file."""
    ours = OURS | {name.split(".")[0] for name in modules}
    seen: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = _source(name) if name.split(".")[0] in ours else None
        if path is None or name in seen or name in NAMES_ONLY:
            continue
        seen[name] = path
        waiting += _imports(path)
    return seen


def _source(name: str) -> Path | None:
    """The file of a module; None for a name that is inside one. Only the top folder is looked up, so nothing runs."""
    top, *rest = name.split(".")
    spec = find_spec(top)
    if spec is None or not spec.origin:
        return None
    path = Path(spec.origin).parent.joinpath(*rest)
    return next((f for f in (path.with_suffix(".py"), path / "__init__.py") if f.is_file()), None)


def _imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from models import training` names a module, `from models.training import fit` a function in one.
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found
