"""Interview notes: question, answer, evidence and proof, read from docstrings without importing the modules.

A note is a block of fields in the docstring of the code that answers the question. Indented lines continue a field::

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
    """An interview question.

    Attributes:
        id: For example A29.
        text: The question itself.
        follow_ups: Points that a strong candidate adds.
    """

    id: str
    text: str
    follow_ups: tuple[str, ...]


@dataclass(frozen=True)
class Note:
    """The answer to a question, as the code documents it.

    Attributes:
        id: Id of the question.
        question: The question.
        answer: At most ``WORDS`` words.
        evidence: Importable name of the function that computes the evidence.
        proof: Test that fails if the answer is wrong.
        path: File of the code, relative to the root.
        line: First line of the object.
        name: Name of the object in its module, for example ``Transform.parse``; of a module, its own name.
        source: Line numbers and lines of the object, without its docstring.
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
    """All questions by id, in order."""
    table = tomllib.loads(Path(__file__).with_name("questions.toml").read_text())
    return {id_: Question(id_, entry["question"], tuple(entry["follow_ups"])) for id_, entry in table.items()}


def read(root: Path = ROOT) -> dict[str, Note]:
    """All notes under the root by id, in the order of the questions.

    Raises:
        ValueError: for a malformed note, with file and line.
    """
    by_id: dict[str, Note] = {}
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            for note in _read_file(path, path.relative_to(root).as_posix()):
                if note.id in by_id:
                    other = by_id[note.id]
                    raise _error(note.path, note.line, f"{note.id} has a note already, in {other.path}:{other.line}")
                by_id[note.id] = note
    return {id_: by_id[id_] for id_ in questions() if id_ in by_id}


def current() -> dict[str, Note]:
    """All notes of the current code, read again only if a file has changed."""
    stamps = (path.stat().st_mtime_ns for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return _read_at(tuple(stamps))


@lru_cache(maxsize=1)
def _read_at(stamps: tuple[int, ...]) -> dict[str, Note]:
    return read()


def search(words: str, notes: Mapping[str, Note]) -> list[str]:
    """Ids of the questions that contain the words, best match first.

    A word weighs more, the fewer questions contain it; in the question itself it counts twice as much as in the answer.
    """
    question_words = {id_: _split_words(question.text) for id_, question in questions().items()}
    answer_words = {id_: _split_words(" ".join(question.follow_ups)) for id_, question in questions().items()}
    for id_, note in notes.items():
        answer_words[id_] |= _split_words(f"{note.answer} {note.name}")
    scores = dict.fromkeys(question_words, 0.0)
    for word in _split_words(words):
        matching = [id_ for id_ in question_words if word in question_words[id_] | answer_words[id_]]
        for id_ in matching:
            scores[id_] += (2 * (word in question_words[id_]) + (word in answer_words[id_])) / len(matching)
    return sorted((id_ for id_ in scores if scores[id_]), key=lambda id_: -scores[id_])


def _split_words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def _read_file(path: Path, relative: str) -> Iterator[Note]:
    text = path.read_text()
    # Parsing takes most of the time, and most files have no note.
    if not any(f"{field}:" in text for field in FIELDS):
        return
    lines = text.splitlines()
    for name, node in _find_documented(ast.parse(text), path.stem, ""):
        first_line = node.body[0].lineno
        for offset, fields in _find_blocks(ast.get_docstring(node) or "", relative, first_line):
            yield _parse_note(fields, relative, first_line + offset, name, node, lines)


def _find_documented(node: ast.AST, name: str, prefix: str) -> Iterator[tuple[str, Documented]]:
    """Every object with a docstring, with its name in the module."""
    if isinstance(node, Documented) and ast.get_docstring(node, clean=False) is not None:
        yield name, node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _find_documented(child, prefix + child.name, f"{prefix}{child.name}.")


def _find_blocks(doc: str, path: str, start: int) -> Iterator[tuple[int, dict[str, str]]]:
    """The notes of a docstring: line offset and fields of each."""
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
                    path, start + offset, f"'{field[1]}:' is outside of a note; begin the note with 'Question:'"
                )
            if field[1] in block:
                raise _error(path, start + offset, f"'{field[1]}:' is given twice")
            first, last = (first if block else offset), field[1]
            block[last] = (field[2] or "").strip()
        elif block and line.strip():
            if not line.startswith(" "):
                raise _error(
                    path, start + offset, f"'{line}' is not a field of a note; indent lines that continue a field"
                )
            block[last] = f"{block[last]} {line.strip()}".strip()


def _parse_note(fields: dict[str, str], path: str, line: int, name: str, node: Documented, lines: list[str]) -> Note:
    for field in FIELDS:
        if not fields.get(field):
            raise _error(path, line, f"the note {fields.get('Question', '')} has no '{field}:'")
    id_, answer, evidence, proof = (fields[field] for field in FIELDS)
    if id_ not in questions():
        raise _error(path, line, f"there is no question '{id_}'")
    if len(answer.split()) > WORDS:
        raise _error(path, line, f"the answer to {id_} has {len(answer.split())} words; the maximum is {WORDS}")
    if not EVIDENCE.match(evidence):
        raise _error(
            path,
            line,
            f"the evidence for {id_} is not a name such as tour.evidence.data.raw_examples.example: '{evidence}'",
        )
    if not PROOF.match(proof):
        raise _error(path, line, f"the proof for {id_} is not a test such as tests/test_x.py::test_y: '{proof}'")
    begins = 1 if isinstance(node, ast.Module) else node.lineno
    return Note(
        id=id_,
        question=questions()[id_],
        answer=answer,
        evidence=evidence,
        proof=proof,
        path=path,
        line=begins,
        name=name,
        source=_source_lines(node, begins, lines),
    )


def _source_lines(node: Documented, first_line: int, lines: list[str]) -> tuple[tuple[int, str], ...]:
    docstring = node.body[0]
    last_line = len(lines) if isinstance(node, ast.Module) else node.end_lineno or node.lineno
    docstring_lines = range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1)
    numbers = (n for n in range(first_line, last_line + 1) if n not in docstring_lines)
    return tuple((number, lines[number - 1]) for number in numbers)


def _error(path: str, line: int, what: str) -> ValueError:
    return ValueError(f"{path}:{line}: {what}.")
