"""Evidence over runs: every question has some, and none is a constant: on another home's runs it says something else.

The other home is a copy in which every artifact is changed. Only what was found is compared: what was measured of time or
memory differs by itself, as names of files and runs do, and would hide a constant.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from support.proofs import Proofs
from support.training_evidence import agree, told_apart

from models.training import entry_point
from models.training.distribute.job import Job
from models.training.seeds import seed_everything
from tour import ask, notes
from tour.evidence import render
from tour.evidence.result_types import Graph, Image, Matrix, Node, NotHere, Number, Result, Series, Table
from tour.evidence.training import distribution

pytestmark = pytest.mark.system

# Evidence that trains, measures or starts processes for seconds: with the slow tests, so that `make test` stays short.
LONG = {
    "A1",
    "A3",
    "A4",
    "A6",
    "A11",
    "A14",
    "A17",
    "A21",
    "A22",
    "A25",
    "A26",
    "A27",
    "A29",
    "B4",
    "B7",
    "B8",
    "B10",
    "B12",
    "B13",
    "B14",
    "B16",
    "B19",
    "B20",
    "B21",
    "B22",
    "B24",
    "B26",
    "B28",
}
PROCESSES = ("A29", "B13")  # what starts processes, which is done once
CONSTANT = "The evidence of {} says the same of two runs: it is a constant."
# Titles, columns and units of measurements, of their ratios, and of what is sorted by them.
MEASURED = re.compile(
    r"(^|[\s(/])(s|ms|µs|us|MiB|seconds|examples/s|bytes/s)\b|\btimes?\b|peak|[Mm]emory|latency|Slowest|AUTOTUNE|[Pp]rocess"
    r"|eager / graph|pay for|limit|ratio$|gain by|[Ww]ait"
)
NAMES = re.compile(r"/\S+|\b[a-z]+-\d{8}-\d{6}-\d+|\d{4}-\d\d-\d\d(T\S+)?|\b[0-9a-f]{32}\b")
FAINT = 1e-5  # less than that is rounding, which differs by itself


@pytest.mark.parametrize(
    "id_", [pytest.param(id_, marks=[pytest.mark.slow] if id_ in LONG else []) for id_ in notes.read()]
)
def test_every_note_has_evidence_on_a_run(proofs: Proofs, id_: str) -> None:
    shown = [result for result in proofs.prove(id_) if not isinstance(result, NotHere)]
    assert shown
    for result in shown:
        json.dumps(render.to_json(result), allow_nan=False)


@pytest.mark.slow
@pytest.mark.parametrize(("id_", "check"), [("A29", agree), ("B13", told_apart)])
def test_several_replicas_agree_and_were_told_their_places(
    proofs: Proofs, id_: str, check: Callable[[list[Result]], None]
) -> None:
    check(proofs.prove(id_))


@pytest.mark.slow
@pytest.mark.parametrize("id_", [id_ for id_ in notes.read() if id_ not in PROCESSES])
def test_evidence_is_no_constant(proofs: Proofs, changed_proofs: Proofs, id_: str) -> None:
    assert changed(proofs.prove(id_), changed_proofs.prove(id_)), CONSTANT.format(id_)


@pytest.mark.slow
@pytest.mark.parametrize("id_", PROCESSES)
def test_evidence_of_several_processes_is_no_constant(
    proofs: Proofs, changed_proofs: Proofs, id_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job of the processes is trained in this one, on both homes: what is looked at is whose rows it has."""
    monkeypatch.setattr(distribution.cluster, "run", train_here)
    first, second = (ask.evidence(notes.read()[id_], "image", home)[1] for home in (proofs.home, changed_proofs.home))
    assert changed(first, second), CONSTANT.format(id_)


def train_here(job: Job) -> None:
    """A cluster of one task, which is this process."""
    print("worker 0 is process 1")
    Path(job.folder, "cluster.json").write_text("{}")
    settings = {**job.settings, "strategy": "none"}
    seed_everything(settings)
    entry_point.train(replace(job, settings=settings))


def test_a_constant_is_seen_whatever_was_measured_and_however_things_are_called() -> None:
    def constant(home: str, seconds: float) -> list[Result]:
        return [
            Number("Steps", 40),
            Number("It took", seconds, "s"),
            Number("Growth", seconds, "MiB a split"),
            Table("Ways", ("way", "rows", "ms", "times naive"), (("one", 3, seconds, 2 * seconds),)),
            Series("Speed", "batch", "examples/s", {"here": ((1.0, seconds),)}),
            Matrix("m", ("a",), ("b",), ((1.0,),)),
            Graph(f"Run fraud-20261127-2033{home}-381", (Node("Trainer", f"/tmp/{home}/fraud", "done"),), ()),
            Image("picture", b"png"),
            Number("Difference", seconds * 1e-9),
            NotHere("GPU", f"none in {home}"),
        ]

    assert not changed(constant("19", 0.25), constant("20", 0.5))


@pytest.mark.parametrize(
    "one",
    [
        lambda n: Number("Steps", 40 + n),
        lambda n: Number("Gate", f"passes {n}"),
        lambda n: Number("Steps", 1, f"of {n}"),
        lambda n: Table(f"{n} rows", (), ()),
        lambda n: Table("", ("way", "ms", "rows"), (("one", 0.1, n),)),
        lambda n: Series("Loss", "epoch", "loss", {"train": ((1.0, 0.5 + n),)}),
        lambda n: Matrix("", ("a",), ("b",), ((n,),)),
        lambda n: Series("Loss", "epoch", "loss", {}, {"kept": (float(n), 0.5)}),
        lambda n: Image("digit", bytes([n])),
        lambda n: Graph("", (Node("a", "", f"span {n}"),), ()),
    ],
)
def test_what_a_run_decides_is_seen_wherever_it_stands(one: Any) -> None:
    assert changed([one(1)], [one(2)]) and not changed([one(1)], [one(1)])


def changed(first: list[Result], second: list[Result]) -> bool:
    """Whether the two say different things of their runs."""
    return [facts(one) for one in first] != [facts(one) for one in second]


def facts(result: Result) -> list[str]:
    """What a piece of evidence says of its run, without measurements and names."""
    if isinstance(result, NotHere) or MEASURED.search(result.title):
        return []
    said = [_word(result.title)]
    if isinstance(result, Number):
        return said if MEASURED.search(f" {result.unit}") else [*said, _word(result.value), _word(result.unit)]
    if isinstance(result, Table):
        kept = [n for n, name in enumerate(result.columns) if not MEASURED.search(name)]
        return said + [_word(row[n]) for row in result.rows for n in kept]
    if isinstance(result, Series):
        return said if MEASURED.search(f"{result.x} {result.y}") else said + _words(result.lines) + _words(result.marks)
    if isinstance(result, Matrix):
        return said + _words(result.values)
    if isinstance(result, Image):
        return [*said, sha256(result.png).hexdigest()]
    return said + [_word(text) for node in result.nodes for text in (node.name, node.detail, node.state)]


def _word(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) > FAINT else "0"
    return NAMES.sub("", str(value))


def _words(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [word for name, one in value.items() for word in (str(name), *_words(one))]
    return [word for one in value for word in _words(one)] if isinstance(value, tuple | list) else [_word(value)]
