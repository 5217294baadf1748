"""The notes: what the grammar takes and refuses, and that what the repository's own notes name is there."""

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
    """A tree with one module a docstring."""
    for number, doc in enumerate(docs):
        path = root / "models" / f"m{number}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(template.format("\n".join(f"    {line}" if line else "" for line in doc.splitlines())))
    return root


def test_a_note_is_read_with_its_place_and_code(tmp_path: Path) -> None:
    note = notes.read(written(tmp_path, GOOD))["A29"]
    assert (note.path, note.line, note.name) == ("models/m0.py", 1, "one")
    assert note.answer == "One thing, and another."
    assert note.evidence == "tour.evidence.training.trainer_output.strategies_agree"
    assert note.proof == "tests/models/training/distribute/test_strategies.py::test_equal"
    assert note.question.text == "How does TensorFlow distribute training?"
    assert note.source == ((1, "def one():"), (10, "    return 1"))


def test_one_docstring_carries_several_notes_with_or_without_a_blank_line(tmp_path: Path) -> None:
    for n, between in enumerate(("\n", "")):
        root = tmp_path / str(n)
        root.mkdir()
        assert list(notes.read(written(root, GOOD + between + GOOD.replace("A29", "A3")))) == ["A3", "A29"]


def test_modules_classes_and_methods_carry_notes(tmp_path: Path) -> None:
    def of(id_: str, indent: int) -> str:
        return '"""What.\n\n' + "".join(f"{' ' * indent}{line}\n" for line in GOOD.replace("A29", id_).splitlines())

    text = f'{of("A1", 0)}"""\nclass C:\n    {of("A2", 4)}    """\n    def f(self):\n        {of("A3", 8)}        """\n'
    (tmp_path / "tour").mkdir()
    (tmp_path / "tour" / "m.py").write_text(text)
    found = notes.read(tmp_path)
    assert [(note.id, note.name) for note in found.values()] == [("A1", "m"), ("A2", "C"), ("A3", "C.f")]


def test_an_indented_example_is_no_note(tmp_path: Path) -> None:
    assert notes.read(written(tmp_path, "Such as::\n\n" + "".join(f"    {line}\n" for line in GOOD.splitlines()))) == {}


@pytest.mark.parametrize(
    ("doc", "message"),
    [
        (GOOD.replace("A29", "A99"), "no question 'A99'"),
        (GOOD.replace("One thing", ("word " * 79).strip()), "has 81 words, and 80 is the most"),
        (GOOD + "\n" + GOOD, "A29 has a note already"),
        (GOOD + "Proof: tests/test_x.py::test_y\n", "'Proof:' is given twice"),
        (GOOD.replace("Proof", "Prove"), "is no field of a note"),
        (GOOD.replace("Question: A29\n", ""), "'Answer:' stands outside a note"),
        (GOOD.replace("tour.evidence.training.trainer_output.", ""), "not a name such as"),
        (GOOD.replace("::test_equal", ""), "not a test such as"),
        *(
            (GOOD.replace(f"{name}:", f"{name}:\n    \n#", 1).split("#")[0], f"lacks '{name}:'")
            for name in notes.FIELDS[1:]
        ),
        ("Question:\n" + GOOD.partition("\n")[2], "lacks 'Question:'"),
    ],
)
def test_malformed_notes_are_refused_with_file_and_line(tmp_path: Path, doc: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^models/m0\.py:\d+: ") as caught:
        notes.read(written(tmp_path, doc))
    assert message in str(caught.value)


def test_eighty_words_are_allowed(tmp_path: Path) -> None:
    assert notes.read(written(tmp_path, GOOD.replace("One thing", ("word " * 78).strip())))


def test_a_question_has_one_note_in_all_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^models/m1\.py:1: A29 has a note already, in models/m0\.py:1\.$"):
        notes.read(written(tmp_path, GOOD, GOOD))


def test_there_are_58_questions_in_order() -> None:
    ids = [f"A{n}" for n in range(1, 31)] + [f"B{n}" for n in range(1, 29)]
    assert list(notes.questions()) == ids
    assert all(one.text and one.id == id_ for id_, one in notes.questions().items())


@pytest.mark.parametrize(
    ("words", "first"),
    [("roc curve", "A28"), ("What is PCA", "A20"), ("placeholder variable", "A9"), ("image classifier", "B9")],
)
def test_search_ranks_by_words(words: str, first: str) -> None:
    assert notes.search(words, OURS)[0] == first


def test_search_finds_nothing_for_words_that_are_nowhere() -> None:
    assert notes.search("zeppelin", OURS) == []


@pytest.mark.parametrize("id_", notes.questions())
def test_every_question_has_a_note_with_evidence_and_proof(id_: str) -> None:
    assert not lacks(id_, OURS)


@pytest.mark.parametrize("id_", OURS)
def test_what_is_taken_away_is_named(id_: str) -> None:
    note = OURS[id_]
    for gone, what in (
        (None, "no docstring"),
        (replace(note, evidence=note.evidence + "_gone"), "no evidence"),
        (replace(note, evidence="tour.evidence.gone.gone"), "no evidence"),
        (replace(note, proof=note.proof + "_gone"), "no proof"),
        (replace(note, proof="tests/test_gone.py::test_gone"), "no proof"),
    ):
        found = {**OURS, id_: gone} if gone else {name: one for name, one in OURS.items() if name != id_}
        assert lacks(id_, found).startswith(f"{id_}: {what}")


@pytest.mark.parametrize(
    ("test", "why"),
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
def test_a_proof_that_is_not_run_is_none(tmp_path: Path, test: str, why: str) -> None:
    (tmp_path / "test_x.py").write_text(test)
    found = unproven(tmp_path / "test_x.py", "test_it")
    assert bool(found) == bool(why) and why in found


def lacks(id_: str, found: Mapping[str, Note]) -> str:
    """What the question has not, naming it; empty where it has all."""
    if id_ not in found:
        return f"{id_}: no docstring of the code carries its note."
    note = found[id_]
    module, _, name = note.evidence.rpartition(".")
    try:
        function = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        return f"{id_}: no evidence: {error}"
    if list(function.__annotations__) != ["context", "return"] or not function.__doc__.startswith(f"{id_}: "):
        return f"{id_}: no evidence: {note.evidence} is a function for something else."
    path, _, name = note.proof.partition("::")
    why = unproven(ROOT / path, name)
    return f"{id_}: no proof: {note.proof} {why}." if why else ""


@cache
def unproven(path: Path, name: str) -> str:
    """Why the test proves nothing; empty if it does."""
    tree = ast.parse(path.read_text()) if path.exists() else ast.Module([], [])
    test = next((one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == name), None)
    if test is None:
        return "is not there"
    marks = [one.value for one in tree.body if isinstance(one, ast.Assign) and "pytestmark" in ast.unparse(one)]
    said = [*map(ast.unparse, (*test.decorator_list, *marks)), *re.findall(r"pytest\.skip", ast.unparse(test))]
    return "is skipped" if any(word in one for one in said for word in ("skip", "xfail")) else ""


@pytest.mark.parametrize("note", OURS.values(), ids=OURS)
def test_answers_are_short(note: Note) -> None:
    assert 10 <= len(note.answer.split()) <= notes.WORDS


def test_reading_parses_no_file_without_a_note(tmp_path: Path) -> None:
    written(tmp_path, GOOD)
    (tmp_path / "models" / "other.py").write_text("this is no Python\n")
    assert list(notes.read(tmp_path)) == ["A29"]


ASKS = """
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
def test_asking_imports_no_library_of_training() -> None:
    done = subprocess.run([sys.executable, "-c", ASKS], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "[]", done.stdout[-2000:] + done.stderr


def test_asking_shows_answer_place_evidence_and_proof() -> None:
    told, note = run_in_process("ask", "A20").stdout, OURS["A20"]
    plain = " ".join(told.split())
    for text in (note.question.text, f"{note.path}:{note.line}", note.evidence, note.proof, "tft.pca"):
        assert text in plain


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("A99",), "There is no question 'A99'"),
        (("A20", "--prove", "--home", "/nowhere"), "showcase demo --home /nowhere"),
        (("A20", "--prove", "--case", "fraud", "--home", "/nowhere"), "showcase run fraud --home /nowhere"),
        (("--prove",), "--prove takes one question"),
    ],
)
def test_what_cannot_be_answered_is_one_sentence_and_an_error(words: tuple[str, ...], sentence: str) -> None:
    done = run_in_process("ask", *words)
    assert done.returncode == 2
    assert sentence in done.stderr and len(done.stderr.splitlines()) == 1
