"""Evidence on runs: every question has evidence, and it is no constant: it differs on the runs of another home.

The other home is a copy in which every artifact is changed. Measurements of time and memory, and names of files and runs,
are not compared: they differ in any case and would hide a constant.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from support.proofs import EvidenceCache
from support.training_evidence import check_processes_differ, check_strategies_agree

from models.training import entry_point
from models.training.distribute.job import TrainingJob
from models.training.seeds import seed_everything
from tour import ask, notes
from tour.evidence import render
from tour.evidence.result_types import Graph, Image, Matrix, Node, NotHere, Number, Result, Series, Table
from tour.evidence.training import distribution

pytestmark = pytest.mark.system

# Evidence that trains, measures or starts processes for seconds: marked slow, so that `make test` stays short.
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
PROCESSES = ("A29", "B13")  # evidence that starts processes, computed once
CONSTANT = "The evidence of {} is the same for two different runs: it is a constant."
# Titles, columns and units of measurements, of ratios of measurements, and of rows that are sorted by them.
MEASURED = re.compile(
    r"(^|[\s(/])(s|ms|µs|us|MiB|seconds|examples/s|bytes/s)\b|\btimes?\b|peak|[Mm]emory|latency|Slowest|AUTOTUNE|[Pp]rocess"
    r"|eager / graph|pay for|limit|ratio$|gain by|[Ww]ait"
)
NAMES = re.compile(r"/\S+|\b[a-z]+-\d{8}-\d{6}-\d+|\d{4}-\d\d-\d\d(T\S+)?|\b[0-9a-f]{32}\b")
FAINT = 1e-5  # smaller values are rounding errors, which differ in any case


@pytest.mark.parametrize(
    "id_", [pytest.param(id_, marks=[pytest.mark.slow] if id_ in LONG else []) for id_ in notes.read()]
)
def test_every_note_has_evidence_on_a_run(proofs: EvidenceCache, id_: str) -> None:
    available = [result for result in proofs.prove(id_) if not isinstance(result, NotHere)]
    assert available
    for result in available:
        json.dumps(render.to_json(result), allow_nan=False)


@pytest.mark.slow
@pytest.mark.parametrize(("id_", "check"), [("A29", check_strategies_agree), ("B13", check_processes_differ)])
def test_replicas_agree_and_have_their_own_tf_config(
    proofs: EvidenceCache, id_: str, check: Callable[[list[Result]], None]
) -> None:
    check(proofs.prove(id_))


@pytest.mark.slow
@pytest.mark.parametrize("id_", [id_ for id_ in notes.read() if id_ not in PROCESSES])
def test_evidence_differs_between_homes(proofs: EvidenceCache, changed_proofs: EvidenceCache, id_: str) -> None:
    assert changed(proofs.prove(id_), changed_proofs.prove(id_)), CONSTANT.format(id_)


@pytest.mark.slow
@pytest.mark.parametrize("id_", PROCESSES)
def test_evidence_of_several_processes_differs_between_homes(
    proofs: EvidenceCache, changed_proofs: EvidenceCache, id_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trains the job in this process on both homes, as only the dependence on the rows is tested."""
    monkeypatch.setattr(distribution.cluster, "run", train_in_this_process)
    first, second = (
        ask.compute_evidence(notes.read()[id_], "image", home)[1] for home in (proofs.home, changed_proofs.home)
    )
    assert changed(first, second), CONSTANT.format(id_)


def train_in_this_process(job: TrainingJob) -> None:
    """Replace the cluster by a single task in this process."""
    print("worker 0 is process 1")
    Path(job.folder, "cluster.json").write_text("{}")
    settings = {**job.settings, "strategy": "none"}
    seed_everything(settings)
    entry_point.train(replace(job, settings=settings))


def test_changed_ignores_measurements_and_names() -> None:
    def constant(home: str, seconds: float) -> list[Result]:
        return [
            Number("Steps", 40),
            Number("It took", seconds, "s"),
            Number("Growth", seconds, "MiB per split"),
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
    "make",
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
def test_changed_detects_a_difference_in_every_part_of_evidence(make: Any) -> None:
    assert changed([make(1)], [make(2)]) and not changed([make(1)], [make(1)])


def changed(first: list[Result], second: list[Result]) -> bool:
    """Whether the evidence of two runs differs."""
    return [facts(result) for result in first] != [facts(result) for result in second]


def facts(result: Result) -> list[str]:
    """Texts of a piece of evidence without measurements and names."""
    if isinstance(result, NotHere) or MEASURED.search(result.title):
        return []
    texts = [_word(result.title)]
    if isinstance(result, Number):
        return texts if MEASURED.search(f" {result.unit}") else [*texts, _word(result.value), _word(result.unit)]
    if isinstance(result, Table):
        indices = [n for n, name in enumerate(result.columns) if not MEASURED.search(name)]
        return texts + [_word(row[n]) for row in result.rows for n in indices]
    if isinstance(result, Series):
        return (
            texts if MEASURED.search(f"{result.x} {result.y}") else texts + _words(result.lines) + _words(result.marks)
        )
    if isinstance(result, Matrix):
        return texts + _words(result.values)
    if isinstance(result, Image):
        return [*texts, sha256(result.png).hexdigest()]
    return texts + [_word(text) for node in result.nodes for text in (node.name, node.detail, node.state)]


def _word(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) > FAINT else "0"
    return NAMES.sub("", str(value))


def _words(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [word for name, item in value.items() for word in (str(name), *_words(item))]
    return [word for item in value for word in _words(item)] if isinstance(value, tuple | list) else [_word(value)]
