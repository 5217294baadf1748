"""Evidence over runs: every question has some in time, and none is a constant, as another run of the same cases shows.

Both runs have the same networks; the other one has fewer rows of other data. Only what was found is compared: what was
measured of time or memory differs by itself, as names of files and runs do, and would hide a constant.
"""

import json
import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from support.command import showcase
from support.training_evidence import agree, told_apart

from tour import ask, notes
from tour.evidence import autodiff, inputs, render, serving
from tour.evidence.kinds import Graph, Image, Matrix, Node, NotHere, Number, Result, Series, Table

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
SECONDS = 120  # far above what any takes: a guard against one that hangs, on a machine that may be busy
PURCHASES = {
    "rows": 12_000,
    "days": 40,
    "data_seed": 11,
    "warmup_days": 8,
    "valid_days": 5,
    "eval_days": 6,
    "epochs": 2,
    "min_pr_auc": 0,
    "max_gap": 0,
}
PICTURES = {"epochs": 3, "min_accuracy": 0, "min_class_accuracy": 0, "max_gap": 0}
# Titles, columns and units of measurements, of their ratios, and of what is sorted by them.
MEASURED = re.compile(
    r"(^|[\s(/])(s|ms|µs|us|MiB|seconds|examples/s|bytes/s)\b|\btimes?\b|peak|[Mm]emory|latency|Slowest|AUTOTUNE|[Pp]rocess"
    r"|eager / graph|pay for|limit|ratio$|gain by|[Ww]ait"
)
NAMES = re.compile(r"/\S+|\b[a-z]+-\d{8}-\d{6}-\d+|\d{4}-\d\d-\d\d(T\S+)?|\b[0-9a-f]{32}\b")
FAINT = 1e-5  # less than that is rounding, which differs by itself


@pytest.fixture(scope="module")
def said(demo_home: Path) -> dict[str, list[Result]]:
    """Evidence of the demo's runs by id, filled by whoever asks first."""
    return {}


@pytest.fixture(scope="module")
def other_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with another run of both cases: few purchases of another seed, every other digit."""
    home, digits = tmp_path_factory.mktemp("other"), load_digits()
    span = home / "half" / "span-000"
    span.mkdir(parents=True)
    pictures = np.rint(digits.images * (255 / 16)).astype(np.uint8)[::2, ..., None]
    np.savez(span / "images.npz", images=pictures, labels=digits.target[::2].astype(str))
    for case, changes, more in (("fraud", PURCHASES, ()), ("image", PICTURES, ("--data", span.parent))):
        words = [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]
        done = showcase("run", case, "--home", home, "--json", *more, *words)
        assert done.returncode == 0, done.stdout + done.stderr
    return home


@pytest.mark.parametrize(
    "id_", [pytest.param(id_, marks=[pytest.mark.slow] if id_ in LONG else []) for id_ in notes.read()]
)
def test_every_note_has_evidence_on_the_demos_run_in_time(
    demo_home: Path, said: dict[str, list[Result]], id_: str
) -> None:
    _, said[id_], seconds = ask.evidence(notes.read()[id_], None, demo_home)
    assert seconds < SECONDS
    shown = [one for one in said[id_] if not isinstance(one, NotHere)]
    assert shown
    for one in shown:
        json.dumps(render.to_json(one), allow_nan=False)


@pytest.mark.slow
@pytest.mark.parametrize(("id_", "looked_at"), [("A29", agree), ("B13", told_apart)])
def test_several_replicas_agree_and_were_told_their_places(
    demo_home: Path, said: dict[str, list[Result]], id_: str, looked_at: Callable[[list[Result]], None]
) -> None:
    looked_at(said.get(id_) or ask.evidence(notes.read()[id_], None, demo_home)[1])


@pytest.mark.slow
@pytest.mark.parametrize("id_", notes.read())
def test_another_run_has_other_evidence(
    demo_home: Path, other_home: Path, said: dict[str, list[Result]], id_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = notes.read()[id_]
    first = said.get(id_) or ask.evidence(note, None, demo_home)[1]
    for module in (autodiff, inputs, serving):  # how long a call's time is measured, which is not compared
        monkeypatch.setattr(module, "SECONDS", 0.01)
    _, second, _ = ask.evidence(note, None, other_home)
    assert changed(first, second), (
        f"The evidence of {id_}, {note.evidence}, says the same of two runs: it is a constant."
    )


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
