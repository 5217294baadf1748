"""The `ask` command: a question with its answer, the code that it is about, and evidence computed on demand."""

import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from pipeline.checkout import ROOT
from pipeline.terminal import make_console
from tour import notes
from tour.notes import Note

CODE_LINES = 40
MATCHES = 8


def ask(words: Sequence[str], prove: bool, case: str | None, home: Path, as_json: bool) -> None:
    """Print the list of questions, one question, or those that match the words.

    Raises:
        ValueError: for an unknown id, words without a match, or evidence that cannot be computed, with the remedy.
    """
    answers = notes.read()
    ids = _find_ids(" ".join(words), answers)
    if prove and len(ids) != 1:
        raise ValueError("--prove takes exactly one question; list the ids with `showcase ask`.")
    if len(ids) != 1:
        _print_list(ids, answers, as_json)
        return
    note = answers.get(ids[0])
    if note is None:
        raise ValueError(f"{ids[0]} ({notes.questions()[ids[0]].text}) has no answer in the code yet.")
    if prove:
        _print_evidence(note, case, home, as_json)
    else:
        _print_note(note, as_json)


def compute_evidence(note: Note, case: str | None, home: Path) -> tuple[str, list[Any], float]:
    """Compute the evidence for a note; return the case, the results and the seconds without imports.

    Without a case, every case with a pushed run is tried until one has the evidence.

    Raises:
        ValueError: if there is no pushed run.
    """
    for logger in ("absl", "tensorflow"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    candidates = list(pushed_contexts(case, home))
    module, _, name = note.evidence.rpartition(".")
    function = getattr(import_module(module), name)
    computed: list[tuple[str, list[Any], float]] = []
    for context in candidates:
        started = time.perf_counter()
        results = function(context)
        computed.append((context.case.name, results, time.perf_counter() - started))
        if any(type(result).__name__ != "NotHere" for result in results):
            break
    return computed[-1]


def pushed_contexts(case: str | None, home: Path) -> Iterator[Any]:
    """The last pushed run of the given case, or of every case that has one.

    Raises:
        ValueError: if there is none.
    """
    from models.catalog import CASES
    from tour.evidence.context import Context

    if case:
        yield Context.of(home, case)
        return
    pushed = [name for name in CASES if Context.has(home, name)]
    if not pushed:
        raise ValueError(
            f"Evidence needs a pushed run, and {home} has none; create one with `showcase demo --home {home}`."
        )
    yield from (Context.of(home, name) for name in pushed)


def _find_ids(text: str, answers: dict[str, Note]) -> list[str]:
    """All ids without a text, the id that the text names, or else the best matches."""
    if not text:
        return list(notes.questions())
    if text.upper() in notes.questions():
        return [text.upper()]
    matches = notes.search(text, answers)[:MATCHES]
    if not matches:
        raise ValueError(f"There is no question '{text}'; `showcase ask` lists them all.")
    return matches


def _print_list(ids: Sequence[str], answers: dict[str, Note], as_json: bool) -> None:
    rows = [(id_, notes.questions()[id_].text, answers.get(id_)) for id_ in ids]
    if as_json:
        print(json.dumps([{"id": id_, "question": text, "answered": bool(note)} for id_, text, note in rows], indent=1))
        return
    table = Table("id", "question", "answered in", box=None, pad_edge=False, header_style="dim")
    for id_, text, note in rows:
        table.add_row(id_, text, f"{note.path}:{note.line}" if note else "", style="" if note else "dim")
    make_console().print(table)


def _print_note(note: Note, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(note), indent=1))
        return
    console = make_console()
    _print_answer(console, note)
    console.print(Text.assemble("\n", (f"{note.path}:{note.line}", "dim"), f"  {note.name}"))
    for code in _highlight_source(note):
        console.print(code)
    evidence = Text.assemble("\n", ("evidence", "dim"), f"  {note.evidence}   ", ("(add --prove)", "dim"))
    console.print(evidence, soft_wrap=True)
    console.print(Text.assemble(("proof   ", "dim"), f"  {note.proof}"), soft_wrap=True)


def _print_answer(console: Console, note: Note) -> None:
    console.print(Text.assemble((f"{note.id}  {note.question.text}", "bold"), f"\n\n{note.answer}"))
    if note.question.follow_ups:
        console.print(f"follow-up points: {'; '.join(note.question.follow_ups)}", style="dim")


def _highlight_source(note: Note) -> Iterator[Syntax]:
    """The first lines of the code in blocks of consecutive lines, with their line numbers in the file."""
    text = (ROOT / note.path).read_text()
    for lines in split_consecutive(note.source[:CODE_LINES]):
        yield Syntax(
            text, "python", line_numbers=True, line_range=(lines[0][0], lines[-1][0]), theme="ansi_dark", word_wrap=True
        )


def split_consecutive(source: Sequence[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """Split numbered lines into blocks of consecutive lines; a docstring that was left out separates two blocks."""
    for _, run in groupby(enumerate(source), key=lambda pair: pair[1][0] - pair[0]):
        yield [line for _, line in run]


def _print_evidence(note: Note, case: str | None, home: Path, as_json: bool) -> None:
    from pipeline.session import redirect_stderr

    # TensorFlow's C++ code logs to standard error before logging can be configured; errors are raised as exceptions.
    with redirect_stderr(Path(os.devnull)):
        name, results, seconds = compute_evidence(note, case, home)
    from tour.evidence import render

    if as_json:
        shown = [render.to_json(result) for result in results]
        print(json.dumps({"id": note.id, "case": name, "seconds": seconds, "evidence": shown}, indent=1, default=str))
        return
    console = make_console()
    _print_answer(console, note)
    for result in results:
        console.print()
        console.print(render.to_rich(result))
    console.print(f"\n{note.evidence} on the last pushed run of {name}: {seconds:.1f} s", style="dim")
