"""The code behind a stage, read as it lies in the files now: its sentence, its lines, and the questions that it answers."""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.checkout import ROOT
from tour.notes import Note

GRAPHS = ("pipeline/stages.py", "pipeline/monitoring/monitoring_graph.py")
# What to show of a module in which no object is called as the stage is, the first of these that it has.
MAIN = ("run_fn", "preprocessing_fn", "eval_config", "tuner_fn", "sentences", "read", "build")
LEARNING = ("models/training/entry_point.py", "models/training/tuning.py")
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Piece:
    """An object of a file.

    Attributes:
        path: Relative to the root.
        line: Where it begins.
        name: The object's.
        sentence: The first line of its docstring.
        source: Its lines with their numbers, the docstring left out.
    """

    path: str
    line: int
    name: str
    sentence: str
    source: tuple[tuple[int, str], ...]


def stage(node: str, case: str, root: Path = ROOT) -> list[Piece]:
    """The function that builds the stage, first, then the main object of each module behind it; empty for none."""
    for path in GRAPHS if not _watching(node) else reversed(GRAPHS):
        tree = ast.parse((root / path).read_text())
        for one in tree.body:
            if isinstance(one, ast.FunctionDef) and node in _mentioned(one):
                found = [_piece(root, path, one)]
                return found + [piece for name in _modules(one, case) if (piece := _main(root, name, node))]
    return []


def questions(pieces: list[Piece], notes: Mapping[str, Note]) -> list[Note]:
    """Notes in the stage's own function and anywhere in the modules behind it."""
    if not pieces:
        return []
    own, behind = pieces[0], {piece.path for piece in pieces[1:]}
    if not behind & set(LEARNING):  # many stages look at the network; its questions belong to those that learn it
        behind = {path for path in behind if not path.endswith("/model.py")}
    return [one for one in notes.values() if one.path in behind or (one.path, one.name) == (own.path, own.name)]


def _watching(node: str) -> bool:
    return node in ("DriftMonitor", "Decide", "LogExampleGen", "WindowStatistics", "Importer")


def _mentioned(function: ast.FunctionDef) -> set[str]:
    """Names that are called in a function, and the modules of such calls in the spelling of a node: one of them is the node."""
    found = set()
    for one in ast.walk(function):
        if isinstance(one, ast.Call):
            called = one.func
            if isinstance(called, ast.Name):
                found.add(called.id)
            elif isinstance(called, ast.Attribute):
                found.add(called.attr)
                if isinstance(called.value, ast.Name):
                    found.add("".join(word.capitalize() for word in called.value.id.split("_")))
    return found


def _modules(function: ast.FunctionDef, case: str) -> Iterator[str]:
    """The modules named where the function makes its ``Stage``."""
    for made in ast.walk(function):
        if not (
            isinstance(made, ast.Call) and isinstance(made.func, ast.Name) and made.func.id == "Stage" and made.args[1:]
        ):
            continue
        names = made.args[1]
        if isinstance(names, ast.Name):  # a tuple that the function has named
            names = next(
                (
                    line.value
                    for line in function.body
                    if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == names.id
                ),
                names,
            )
        for one in getattr(names, "elts", []):
            if isinstance(one, ast.Constant):
                yield str(one.value)
            elif isinstance(one, ast.Call) and one.args and isinstance(one.args[0], ast.Constant):
                yield f"models.{case}.{str(one.args[0].value)}"


def _main(root: Path, module: str, node: str) -> Piece | None:
    path = f"{module.replace('.', '/')}.py"
    if not re.fullmatch(r"[\w.]+", module) or not (root / path).is_file():
        return None
    objects = [one for one in ast.parse((root / path).read_text()).body if isinstance(one, Function)]
    public = [one for one in objects if not one.name.startswith("_")]
    ranked = sorted(public, key=lambda one: (one.name != node, MAIN.index(one.name) if one.name in MAIN else len(MAIN)))
    return _piece(root, path, ranked[0]) if ranked else None


def _piece(root: Path, path: str, one: Function) -> Piece:
    lines, doc = (root / path).read_text().splitlines(), ast.get_docstring(one) or ""
    first = min([one.lineno, *(decorator.lineno for decorator in one.decorator_list)])
    text = one.body[0]
    held = range(text.lineno, (text.end_lineno or text.lineno) + 1) if doc else range(0)
    source = tuple((n, lines[n - 1]) for n in range(first, (one.end_lineno or one.lineno) + 1) if n not in held)
    return Piece(path, one.lineno, one.name, doc.partition("\n")[0], source)
