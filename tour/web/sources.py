"""The current source code of a stage, its summary sentence, and the interview questions that its code answers."""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.checkout import ROOT
from tour.notes import Note

GRAPHS = ("pipeline/stages.py", "pipeline/monitoring/monitoring_graph.py")
# The object shown of a module that has none with the node's name: the first of these that it defines.
MAIN_OBJECTS = ("run_fn", "preprocessing_fn", "eval_config", "tuner_fn", "sentences", "read", "build")
TRAINING_MODULES = ("models/training/entry_point.py", "models/training/model_selection/tuning.py")
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class CodePiece:
    """A function or class of a source file.

    Attributes:
        path: Path of the file, relative to the repository root.
        line: Line number of the definition.
        name: Name of the object.
        sentence: First line of its docstring.
        source: Its lines with their numbers, without the docstring.
    """

    path: str
    line: int
    name: str
    sentence: str
    source: tuple[tuple[int, str], ...]


def find_stage_code(node: str, case: str, root: Path = ROOT) -> list[CodePiece]:
    """Find the function that builds a stage and the main object of each of its modules; empty if there is none."""
    for path in GRAPHS if not _is_monitoring(node) else reversed(GRAPHS):
        tree = ast.parse((root / path).read_text())
        for builder in tree.body:
            if isinstance(builder, ast.FunctionDef) and node in _called_names(builder):
                modules = _stage_modules(builder, case)
                pieces = [piece for name in modules if (piece := _find_main_object(root, name, node))]
                return [_extract_piece(root, path, builder), *pieces]
    return []


def find_notes(pieces: list[CodePiece], notes: Mapping[str, Note]) -> list[Note]:
    """Find the notes in the function that builds the stage and in its modules."""
    if not pieces:
        return []
    builder, modules = pieces[0], {piece.path for piece in pieces[1:]}
    if not modules & set(TRAINING_MODULES):
        # Many stages depend on the model's module, but its questions belong to the training stages.
        modules = {path for path in modules if not path.endswith("/model.py")}
    return [
        note
        for note in notes.values()
        if note.path in modules or (note.path, note.name) == (builder.path, builder.name)
    ]


def _is_monitoring(node: str) -> bool:
    return node in ("DriftMonitor", "Decide", "LogExampleGen", "WindowStatistics", "Importer")


def _called_names(function: ast.FunctionDef) -> set[str]:
    """Names that a function calls, and the modules of these calls in CamelCase; the id of the node is among them."""
    names = set()
    for call in ast.walk(function):
        if isinstance(call, ast.Call):
            callee = call.func
            if isinstance(callee, ast.Name):
                names.add(callee.id)
            elif isinstance(callee, ast.Attribute):
                names.add(callee.attr)
                if isinstance(callee.value, ast.Name):
                    names.add("".join(word.capitalize() for word in callee.value.id.split("_")))
    return names


def _stage_modules(function: ast.FunctionDef, case: str) -> Iterator[str]:
    """The modules that the function passes to ``Stage``."""
    for call in ast.walk(function):
        if not (
            isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Stage" and call.args[1:]
        ):
            continue
        names = call.args[1]
        if isinstance(names, ast.Name):  # a variable that holds the tuple
            names = next(
                (
                    line.value
                    for line in function.body
                    if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == names.id
                ),
                names,
            )
        for element in getattr(names, "elts", []):
            if isinstance(element, ast.Constant):
                yield str(element.value)
            elif isinstance(element, ast.Call) and element.args and isinstance(element.args[0], ast.Constant):
                yield f"models.{case}.{str(element.args[0].value)}"


def _find_main_object(root: Path, module: str, node: str) -> CodePiece | None:
    path = f"{module.replace('.', '/')}.py"
    if not re.fullmatch(r"[\w.]+", module) or not (root / path).is_file():
        return None
    definitions = [item for item in ast.parse((root / path).read_text()).body if isinstance(item, Definition)]
    public = [definition for definition in definitions if not definition.name.startswith("_")]
    priority = {name: index for index, name in enumerate(MAIN_OBJECTS)}
    ranked = sorted(public, key=lambda each: (each.name != node, priority.get(each.name, len(priority))))
    return _extract_piece(root, path, ranked[0]) if ranked else None


def _extract_piece(root: Path, path: str, definition: Definition) -> CodePiece:
    lines, doc = (root / path).read_text().splitlines(), ast.get_docstring(definition) or ""
    first = min([definition.lineno, *(decorator.lineno for decorator in definition.decorator_list)])
    last, text = definition.end_lineno or definition.lineno, definition.body[0]
    doc_lines = range(text.lineno, (text.end_lineno or text.lineno) + 1) if doc else range(0)
    source = tuple((n, lines[n - 1]) for n in range(first, last + 1) if n not in doc_lines)
    return CodePiece(path, definition.lineno, definition.name, doc.partition("\n")[0], source)
