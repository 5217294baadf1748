"""The interview notes: a question, its answer, its evidence and its proof, read from docstrings without importing them.

A note is a block of fields in the docstring of the code that answers the question, as follows; indented lines go on::

    Question: A29
    Answer: Each replica computes gradients on its slice of the batch, and
        an all-reduce sums them.
    Evidence: tour.evidence.training.trainer_output.strategies_agree
    Proof: tests/models/training/distribute/test_strategies.py::test_replicas_match_one_device
"""

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from pipeline.checkout import ROOT

FOLDERS = ("cli", "pipeline", "components", "models", "serving", "tour")
FIELDS = ("Question", "Answer", "Evidence", "Proof")
WORDS = 80
FIELD = re.compile(rf"({'|'.join(FIELDS)}):(?:\s+(.*))?$")
EVIDENCE = re.compile(r"tour\.evidence(\.\w+)+\.\w+$")
PROOF = re.compile(r"tests/(\w+/)*test_\w+\.py::test_\w+$")
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Question:
    """One of the questions.

    Attributes:
        id: Such as A29.
        text: The question itself.
        follow_ups: What a strong candidate adds.
    """

    id: str
    text: str
    follow_ups: tuple[str, ...]


@dataclass(frozen=True)
class Note:
    """What the code says on a question.

    Attributes:
        id: The question's id.
        question: Its wording.
        answer: At most ``WORDS`` words.
        evidence: Importable name of the function that computes the evidence.
        proof: The test that would fail if the answer were wrong.
        path: File of the code, relative to the root.
        line: Line on which the object begins.
        name: The object's name in its module, such as ``Transform.parse``; the module's own for a module.
        source: The object's lines without its docstring, each with its number.
    """

    id: str
    question: Question
    answer: str
    evidence: str
    proof: str
    path: str
    line: int
    name: str
    source: tuple[tuple[int, str], ...]


@cache
def questions() -> dict[str, Question]:
    """All questions by id, in their order."""
    table = tomllib.loads(Path(__file__).with_name("questions.toml").read_text())
    return {id_: Question(id_, one["question"], tuple(one["follow_ups"])) for id_, one in table.items()}


def read(root: Path = ROOT) -> dict[str, Note]:
    """All notes under the root by id, in the questions' order.

    Raises:
        ValueError: for a malformed note, naming file and line.
    """
    found: dict[str, Note] = {}
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            for note in _notes(path, path.relative_to(root).as_posix()):
                if note.id in found:
                    other = found[note.id]
                    raise _error(note.path, note.line, f"{note.id} has a note already, in {other.path}:{other.line}")
                found[note.id] = note
    return {id_: found[id_] for id_ in questions() if id_ in found}


def current() -> dict[str, Note]:
    """All notes as the code has them now, read again only when a file has changed."""
    stamps = (path.stat().st_mtime_ns for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return _read_at(tuple(stamps))


@lru_cache(maxsize=1)
def _read_at(stamps: tuple[int, ...]) -> dict[str, Note]:
    return read()


def search(words: str, notes: Mapping[str, Note]) -> list[str]:
    """Ids of the questions that have the words, the best first.

    A word counts the more, the fewer questions have it; in the question itself it counts twice what it does in the answer.
    """
    asked = {id_: _words(one.text) for id_, one in questions().items()}
    told = {id_: _words(" ".join(one.follow_ups)) for id_, one in questions().items()}
    for id_, note in notes.items():
        told[id_] |= _words(f"{note.answer} {note.name}")
    scores = dict.fromkeys(asked, 0.0)
    for word in _words(words):
        having = [id_ for id_ in asked if word in asked[id_] | told[id_]]
        for id_ in having:
            scores[id_] += (2 * (word in asked[id_]) + (word in told[id_])) / len(having)
    return sorted((id_ for id_ in scores if scores[id_]), key=lambda id_: -scores[id_])


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def _notes(path: Path, shown: str) -> Iterator[Note]:
    text = path.read_text()
    # Parsing is what takes time, and most files have no note.
    if not any(f"{field}:" in text for field in FIELDS):
        return
    lines = text.splitlines()
    for name, node in _documented(ast.parse(text), path.stem, ""):
        begins = node.body[0].lineno
        for offset, fields in _blocks(ast.get_docstring(node) or "", shown, begins):
            yield _note(fields, shown, begins + offset, name, node, lines)


def _documented(node: ast.AST, name: str, prefix: str) -> Iterator[tuple[str, Documented]]:
    """Every object with a docstring, by its name in the module."""
    if isinstance(node, Documented) and ast.get_docstring(node, clean=False) is not None:
        yield name, node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _documented(child, prefix + child.name, f"{prefix}{child.name}.")


def _blocks(doc: str, path: str, start: int) -> Iterator[tuple[int, dict[str, str]]]:
    """The blocks of a docstring: on which of its lines each begins, and its fields."""
    block: dict[str, str] = {}
    first, last = 0, ""
    for offset, line in enumerate([*doc.splitlines(), ""]):
        field = FIELD.match(line)
        if block and (not line.strip() or (field and field[1] == FIELDS[0])):
            yield first, block
            block, last = {}, ""
        if field:
            if not block and field[1] != FIELDS[0]:
                raise _error(
                    path, start + offset, f"'{field[1]}:' stands outside a note; a note begins with 'Question:'"
                )
            if field[1] in block:
                raise _error(path, start + offset, f"'{field[1]}:' is given twice")
            first, last = (first if block else offset), field[1]
            block[last] = (field[2] or "").strip()
        elif block and line.strip():
            if not line.startswith(" "):
                raise _error(path, start + offset, f"'{line}' is no field of a note; lines that go on are indented")
            block[last] = f"{block[last]} {line.strip()}".strip()


def _note(fields: dict[str, str], path: str, line: int, name: str, node: Documented, lines: list[str]) -> Note:
    for field in FIELDS:
        if not fields.get(field):
            raise _error(path, line, f"the note {fields.get('Question', '')} lacks '{field}:'")
    id_, answer, evidence, proof = (fields[field] for field in FIELDS)
    if id_ not in questions():
        raise _error(path, line, f"there is no question '{id_}'")
    if len(answer.split()) > WORDS:
        raise _error(path, line, f"the answer to {id_} has {len(answer.split())} words, and {WORDS} is the most")
    if not EVIDENCE.match(evidence):
        raise _error(
            path,
            line,
            f"the evidence for {id_} is not a name such as tour.evidence.data.raw_examples.example: '{evidence}'",
        )
    if not PROOF.match(proof):
        raise _error(path, line, f"the proof for {id_} is not a test such as tests/test_x.py::test_y: '{proof}'")
    begins = 1 if isinstance(node, ast.Module) else node.lineno
    return Note(id_, questions()[id_], answer, evidence, proof, path, begins, name, _source(node, begins, lines))


def _source(node: Documented, begins: int, lines: list[str]) -> tuple[tuple[int, str], ...]:
    doc = node.body[0]
    ends = len(lines) if isinstance(node, ast.Module) else node.end_lineno or node.lineno
    inside = range(doc.lineno, (doc.end_lineno or doc.lineno) + 1)
    numbers = (n for n in range(begins, ends + 1) if n not in inside)
    return tuple((number, lines[number - 1]) for number in numbers)


def _error(path: str, line: int, what: str) -> ValueError:
    return ValueError(f"{path}:{line}: {what}.")
