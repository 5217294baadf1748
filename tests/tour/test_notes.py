"""Interview notes: valid and invalid syntax, and that the evidence and proofs of the repository's notes exist."""

import ast
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
from support.in_process import run_in_process

from pipeline.checkout import ROOT
from tour import notes
from tour.notes import Note

GOOD = """Question: A29
Answer: One thing,
    and another.
Evidence: tour.evidence.training.trainer_output.strategies_agree
Proof: tests/models/training/distribute/test_strategies.py::test_equal
"""
OURS = notes.read()


def written(
    root: Path, *docs: str, template: str = 'def one():\n    """Does it.\n\n{}\n    """\n    return 1\n'
) -> Path:
    """Write one module per docstring under the root."""
    for number, doc in enumerate(docs):
        path = root / "models" / f"m{number}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(template.format("\n".join(f"    {line}" if line else "" for line in doc.splitlines())))
    return root


def test_note_has_its_path_line_and_source(tmp_path: Path) -> None:
    note = notes.read(written(tmp_path, GOOD))["A29"]
    assert (note.path, note.line, note.name) == ("models/m0.py", 1, "one")
    assert note.answer == "One thing, and another."
    assert note.evidence == "tour.evidence.training.trainer_output.strategies_agree"
    assert note.proof == "tests/models/training/distribute/test_strategies.py::test_equal"
    assert note.question.text == "How does TensorFlow distribute training?"
    assert note.source == ((1, "def one():"), (10, "    return 1"))


def test_docstring_with_several_notes_is_read(tmp_path: Path) -> None:
    for n, between in enumerate(("\n", "")):
        root = tmp_path / str(n)
        root.mkdir()
        assert list(notes.read(written(root, GOOD + between + GOOD.replace("A29", "A3")))) == ["A3", "A29"]


def test_notes_of_modules_classes_and_methods_are_read(tmp_path: Path) -> None:
    def of(id_: str, indent: int) -> str:
        return '"""What.\n\n' + "".join(f"{' ' * indent}{line}\n" for line in GOOD.replace("A29", id_).splitlines())

    text = f'{of("A1", 0)}"""\nclass C:\n    {of("A2", 4)}    """\n    def f(self):\n        {of("A3", 8)}        """\n'
    (tmp_path / "tour").mkdir()
    (tmp_path / "tour" / "m.py").write_text(text)
    by_id = notes.read(tmp_path)
    assert [(note.id, note.name) for note in by_id.values()] == [("A1", "m"), ("A2", "C"), ("A3", "C.f")]


def test_indented_example_is_ignored(tmp_path: Path) -> None:
    assert notes.read(written(tmp_path, "Such as::\n\n" + "".join(f"    {line}\n" for line in GOOD.splitlines()))) == {}


@pytest.mark.parametrize(
    ("doc", "message"),
    [
        (GOOD.replace("A29", "A99"), "no question 'A99'"),
        (GOOD.replace("One thing", ("word " * 79).strip()), "has 81 words; the maximum is 80"),
        (GOOD + "\n" + GOOD, "A29 has a note already"),
        (GOOD + "Proof: tests/test_x.py::test_y\n", "'Proof:' is given twice"),
        (GOOD.replace("Proof", "Prove"), "is not a field of a note"),
        (GOOD.replace("Question: A29\n", ""), "'Answer:' is outside of a note"),
        (GOOD.replace("tour.evidence.training.trainer_output.", ""), "not a name such as"),
        (GOOD.replace("::test_equal", ""), "not a test such as"),
        *(
            (GOOD.replace(f"{name}:", f"{name}:\n    \n#", 1).split("#")[0], f"has no '{name}:'")
            for name in notes.FIELDS[1:]
        ),
        ("Question:\n" + GOOD.partition("\n")[2], "has no 'Question:'"),
    ],
)
def test_malformed_notes_raise_with_file_and_line(tmp_path: Path, doc: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^models/m0\.py:\d+: ") as caught:
        notes.read(written(tmp_path, doc))
    assert message in str(caught.value)


def test_eighty_words_are_allowed(tmp_path: Path) -> None:
    assert notes.read(written(tmp_path, GOOD.replace("One thing", ("word " * 78).strip())))


def test_second_note_on_a_question_raises(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^models/m1\.py:1: A29 has a note already, in models/m0\.py:1\.$"):
        notes.read(written(tmp_path, GOOD, GOOD))


def test_there_are_58_questions_in_order() -> None:
    ids = [f"A{n}" for n in range(1, 31)] + [f"B{n}" for n in range(1, 29)]
    assert list(notes.questions()) == ids
    assert all(question.text and question.id == id_ for id_, question in notes.questions().items())


@pytest.mark.parametrize(
    ("words", "first"),
    [("roc curve", "A28"), ("What is PCA", "A20"), ("placeholder variable", "A9"), ("image classifier", "B9")],
)
def test_search_ranks_by_words(words: str, first: str) -> None:
    assert notes.search(words, OURS)[0] == first


def test_search_without_a_match_is_empty() -> None:
    assert notes.search("zeppelin", OURS) == []


@pytest.mark.parametrize("id_", notes.questions())
def test_every_question_has_a_note_with_evidence_and_proof(id_: str) -> None:
    assert not find_missing(id_, OURS)


@pytest.mark.parametrize("id_", OURS)
def test_missing_parts_of_a_note_are_named(id_: str) -> None:
    note = OURS[id_]
    for changed, message in (
        (None, "no docstring"),
        (replace(note, evidence=note.evidence + "_gone"), "no evidence"),
        (replace(note, evidence="tour.evidence.gone.gone"), "no evidence"),
        (replace(note, proof=note.proof + "_gone"), "no proof"),
        (replace(note, proof="tests/test_gone.py::test_gone"), "no proof"),
    ):
        incomplete = {**OURS, id_: changed} if changed else {name: other for name, other in OURS.items() if name != id_}
        assert find_missing(id_, incomplete).startswith(f"{id_}: {message}")


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ("def test_it(): pass", ""),
        ("def test_other(): pass", "is not there"),
        ("@pytest.mark.skip\ndef test_it(): pass", "skipped"),
        ("@pytest.mark.skipif(True, reason='')\ndef test_it(): pass", "skipped"),
        ("@pytest.mark.xfail\ndef test_it(): pass", "skipped"),
        ("pytestmark = [pytest.mark.skip]\ndef test_it(): pass", "skipped"),
        ("def test_it():\n    pytest.skip('no')", "skipped"),
    ],
)
def test_missing_or_skipped_proof_is_rejected(tmp_path: Path, test: str, expected: str) -> None:
    (tmp_path / "test_x.py").write_text(test)
    problem = find_problem(tmp_path / "test_x.py", "test_it")
    assert bool(problem) == bool(expected) and expected in problem


def find_missing(id_: str, by_id: Mapping[str, Note]) -> str:
    """What is missing for a question; empty if its note, evidence and proof exist."""
    if id_ not in by_id:
        return f"{id_}: no docstring of the code carries its note."
    note = by_id[id_]
    module, _, name = note.evidence.rpartition(".")
    try:
        function = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        return f"{id_}: no evidence: {error}"
    if list(function.__annotations__) != ["context", "return"] or not function.__doc__.startswith(f"{id_}: "):
        return f"{id_}: no evidence: {note.evidence} is a function for something else."
    path, _, name = note.proof.partition("::")
    problem = find_problem(ROOT / path, name)
    return f"{id_}: no proof: {note.proof} {problem}." if problem else ""


@cache
def find_problem(path: Path, name: str) -> str:
    """Why a test is no proof; empty if it exists and is not skipped."""
    tree = ast.parse(path.read_text()) if path.exists() else ast.Module([], [])
    test = next((node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name), None)
    if test is None:
        return "is not there"
    marks = [node.value for node in tree.body if isinstance(node, ast.Assign) and "pytestmark" in ast.unparse(node)]
    sources = [*map(ast.unparse, (*test.decorator_list, *marks)), *re.findall(r"pytest\.skip", ast.unparse(test))]
    return "is skipped" if any(word in source for source in sources for word in ("skip", "xfail")) else ""


@pytest.mark.parametrize("note", OURS.values(), ids=OURS)
def test_answers_have_ten_to_eighty_words(note: Note) -> None:
    assert 10 <= len(note.answer.split()) <= notes.WORDS


def test_files_without_a_note_are_not_parsed(tmp_path: Path) -> None:
    written(tmp_path, GOOD)
    (tmp_path / "models" / "other.py").write_text("this is no Python\n")
    assert list(notes.read(tmp_path)) == ["A29"]


ASK_PROGRAM = """
import sys
from cli.main import main
for words in ([], ["A28"], ["roc", "curve"], ["a9", "--json"]):
    sys.argv = ["showcase", "ask", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code, words
print(sorted({"tensorflow", "tfx", "numpy", "ml_metadata", "keras"} & set(sys.modules)))
"""


@pytest.mark.system
def test_ask_imports_no_training_library() -> None:
    done = subprocess.run([sys.executable, "-c", ASK_PROGRAM], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "[]", done.stdout[-2000:] + done.stderr


def test_ask_shows_answer_location_evidence_and_proof() -> None:
    output, note = run_in_process("ask", "A20").stdout, OURS["A20"]
    words = " ".join(output.split())
    for text in (note.question.text, f"{note.path}:{note.line}", note.evidence, note.proof, "tft.covariance"):
        assert text in words


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("A99",), "There is no question 'A99'"),
        (("A20", "--prove", "--home", "/nowhere"), "showcase demo --home /nowhere"),
        (("A20", "--prove", "--case", "fraud", "--home", "/nowhere"), "showcase run fraud --home /nowhere"),
        (("--prove",), "--prove takes exactly one question"),
    ],
)
def test_ask_errors_are_one_sentence(words: tuple[str, ...], sentence: str) -> None:
    done = run_in_process("ask", *words)
    assert done.returncode == 2
    assert sentence in done.stderr and len(done.stderr.splitlines()) == 1
