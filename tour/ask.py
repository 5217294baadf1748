"""The command that asks: a question, its answer, the code that it is about, and the evidence computed now."""

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

from pipeline.checkout import ROOT
from tour import notes
from tour.notes import Note

CODE_LINES = 40
MATCHES = 8


def ask(words: Sequence[str], prove: bool, case: str | None, home: Path, as_json: bool) -> None:
    """Prints the list of questions, one of them, or those that fit the words.

    Raises:
        ValueError: for an unknown id, words that fit nothing, or evidence that cannot be had, saying what to do.
    """
    found = notes.read()
    ids = _ids(" ".join(words), found)
    if prove and len(ids) != 1:
        raise ValueError("--prove takes one question; `showcase ask` lists their ids.")
    if len(ids) != 1:
        _list(ids, found, as_json)
        return
    note = found.get(ids[0])
    if note is None:
        raise ValueError(f"{ids[0]} ({notes.questions()[ids[0]].text}) has no answer in the code yet.")
    if prove:
        _proven(note, case, home, as_json)
    else:
        _show(note, as_json)


def evidence(note: Note, case: str | None, home: Path) -> tuple[str, list[Any], float]:
    """The case that had the evidence, the evidence itself, and the seconds it took, imports left out.

    Without a case, every case that has a pushed run is asked until one has the evidence.

    Raises:
        ValueError: if there is no pushed run.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for logger in ("absl", "tensorflow"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    asked = list(contexts(case, home))
    module, _, name = note.evidence.rpartition(".")
    function = getattr(import_module(module), name)
    found: list[tuple[str, list[Any], float]] = []
    for context in asked:
        started = time.perf_counter()
        results = function(context)
        found.append((context.case.name, results, time.perf_counter() - started))
        if any(type(one).__name__ != "NotHere" for one in results):
            break
    return found[-1]


def contexts(case: str | None, home: Path) -> Iterator[Any]:
    """The last pushed run of the case asked for, or of all that have one.

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
            f"Evidence comes from a run, and nothing has been pushed under {home}: `showcase demo --home {home}`."
        )
    yield from (Context.of(home, name) for name in pushed)


def _ids(text: str, found: dict[str, Note]) -> list[str]:
    """All ids for no text, the one that is named, or the best matches."""
    if not text:
        return list(notes.questions())
    if text.upper() in notes.questions():
        return [text.upper()]
    matches = notes.search(text, found)[:MATCHES]
    if not matches:
        raise ValueError(f"There is no question '{text}'; `showcase ask` lists them all.")
    return matches


def _list(ids: Sequence[str], found: dict[str, Note], as_json: bool) -> None:
    rows = [(id_, notes.questions()[id_].text, found.get(id_)) for id_ in ids]
    if as_json:
        print(json.dumps([{"id": id_, "question": text, "answered": bool(note)} for id_, text, note in rows], indent=1))
        return
    table = Table("id", "question", "answered in", box=None, pad_edge=False, header_style="dim")
    for id_, text, note in rows:
        table.add_row(id_, text, f"{note.path}:{note.line}" if note else "", style="" if note else "dim")
    Console().print(table)


def _show(note: Note, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(note), indent=1))
        return
    console = Console()
    _head(console, note)
    console.print(f"\n[dim]{note.path}:{note.line}[/dim]  {note.name}", highlight=False)
    for code in _code(note):
        console.print(code)
    console.print(f"\n[dim]evidence[/dim]  {note.evidence}   [dim](add --prove)[/dim]", highlight=False, soft_wrap=True)
    console.print(f"[dim]proof   [/dim]  {note.proof}", highlight=False, soft_wrap=True)


def _head(console: Console, note: Note) -> None:
    console.print(f"[bold]{note.id}  {note.question.text}[/bold]\n\n{note.answer}", highlight=False)
    if note.question.follow_ups:
        console.print(f"[dim]say also: {'; '.join(note.question.follow_ups)}[/dim]", highlight=False)


def _code(note: Note) -> Iterator[Syntax]:
    """The first lines of the code, in runs of lines that follow each other, with their numbers in the file."""
    text = (ROOT / note.path).read_text()
    for lines in runs_of_lines(note.source[:CODE_LINES]):
        yield Syntax(
            text, "python", line_numbers=True, line_range=(lines[0][0], lines[-1][0]), theme="ansi_dark", word_wrap=True
        )


def runs_of_lines(source: Sequence[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """Numbered lines in runs that follow each other: a docstring that was left out parts them."""
    for _, run in groupby(enumerate(source), key=lambda pair: pair[1][0] - pair[0]):
        yield [line for _, line in run]


def _proven(note: Note, case: str | None, home: Path, as_json: bool) -> None:
    from pipeline.session import stderr_to

    # TensorFlow's C++ code talks on standard error before it can be told not to; what goes wrong comes as an exception.
    with stderr_to(Path(os.devnull)):
        name, results, seconds = evidence(note, case, home)
    from tour.evidence import render

    if as_json:
        shown = [render.to_json(one) for one in results]
        print(json.dumps({"id": note.id, "case": name, "seconds": seconds, "evidence": shown}, indent=1, default=str))
        return
    console = Console()
    _head(console, note)
    for one in results:
        console.print()
        console.print(render.to_rich(one))
    console.print(f"\n[dim]{note.evidence} on the last pushed run of {name}: {seconds:.1f} s[/dim]", highlight=False)
