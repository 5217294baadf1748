"""Where TensorFlow stands: the parts are counted in what lies there, and every library that a node can have has a place."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from served_models import half_plus

from models.catalog import CASES
from pipeline import store
from pipeline.session import Plan
from tour.evidence import overview, surface

SCHEMA = 'feature { name: "a" type: INT }\nfeature { name: "b" type: FLOAT }\n'


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A served model with two signatures' worth of nothing else, and a run with one gate."""
    half_plus(tmp_path / "1", 1.0)
    (tmp_path / "schema").mkdir()
    (tmp_path / "schema" / "schema.pbtxt").write_text(SCHEMA)
    monkeypatch.setattr(store, "stage_states", lambda *_: {"DataGate": "done", "Trainer": "done"})
    return SimpleNamespace(
        served=tmp_path / "1", artifact=lambda key: tmp_path / key, metadata=tmp_path, run=SimpleNamespace(id="r"),
        transform=SimpleNamespace(features={"x": 1, "y": 2, "z": 3}), outputs={"A": {"a": 1, "b": 2}, "B": {"c": 3}},
    )  # fmt: skip


def counts(context: SimpleNamespace) -> dict[str, int]:
    return {row[0]: row[1] for row in surface.production_surface(context)[0].rows}


def test_the_surface_is_counted_in_what_lies_there(context: SimpleNamespace) -> None:
    found = counts(context)
    assert (found["data validation"], found["transform with the model"], found["gates"], found["lineage"]) == (2, 3, 1, 3)
    assert found["serving"] >= 1 and (found["edge"], found["browser"], found["warm-up"]) == (0, 0, 0)
    assert surface.production_surface(context)[1].value == 5
    extra = context.served / "assets.extra"
    extra.mkdir(exist_ok=True)
    for path in (context.served / "model.tflite", extra / "one_row.tflite", extra / "tf_serving_warmup_requests"):
        path.write_bytes(b"there")
    found = counts(context)
    assert (found["edge"], found["browser"], found["warm-up"]) == (1, 1, 1)
    assert surface.production_surface(context)[1].value == 8


def test_every_library_that_a_node_can_stand_on_has_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(surface.PLACES) == set(overview.LIBRARIES.values())
    case = CASES["image"]
    monkeypatch.setattr(overview, "plan_of", lambda _: Plan(case, "/raw", 0, 1, case.configured({}), "", "", "/versions", ""))
    table, others = surface.ecosystem(None)
    named = {row[0]: row[2] for row in table.rows}
    assert named["tensorflow"] > 1 and named["tensorflow-model-analysis"] >= 1 and "lightgbm" in named
    assert others.value == sum(name in named for name in ("lightgbm", "scikit-learn"))
