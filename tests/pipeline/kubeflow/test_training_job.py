"""A training job from what a run has left, as plain fields; and what is refused."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from models.catalog import CASES
from pipeline.kubeflow import training_job
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store

MADE = {
    "SpanExampleGen": {"examples": SimpleNamespace(uri="/made/examples")},
    "Transform": {"transform_graph": SimpleNamespace(uri="/made/graph")},
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a run that has trained with vectors of words, and one after it that has not come so far."""
    (tmp_path / "run" / "pretrained").mkdir(parents=True)
    trained = MADE | {"Trainer": {"model_run": SimpleNamespace(uri=str(tmp_path / "run"))}}
    settings = CASES["fraud"].configured({"epochs": "7", "rows": "3000"})
    for name in ("run-1", "run-2"):
        store.save(
            local_runtime(tmp_path).metadata,
            store.Run(name, "fraud", "pushed", "", "x", {"settings": json.dumps(settings)}),
        )
    monkeypatch.setattr(store, "outputs", lambda _, run: trained if run == "run-1" else MADE)
    return tmp_path


def test_a_job_has_the_runs_settings_with_the_changes_and_its_artifacts(home: Path) -> None:
    found = training_job.fields("fraud", home, {"strategy": "multiworker", "workers": "4"}, "mine")
    assert (found["examples"], found["transform"]) == ("/made/examples", "/made/graph")
    # Not the embedding's own folder: the Trainer has put its rows in the order of the transform graph's words.
    assert found["pretrained"] == str(home / "run" / "pretrained")
    assert found["folder"] == str(home / "fraud" / "training" / "mine")
    assert (found["settings"]["strategy"], found["settings"]["workers"]) == ("multiworker", 4)
    assert (found["settings"]["epochs"], found["settings"]["rows"]) == (7, 3000)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rows": "9"}, "'rows' is no setting of the training"),
        ({"epoch": "9"}, "no setting 'epoch'"),
        ({"strategy": "everywhere"}, "everywhere"),
    ],
)
def test_settings_that_cannot_be_are_refused(home: Path, changes: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        training_job.fields("fraud", home, changes, "mine")


def test_without_a_run_one_sentence_and_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["image", "--home", str(tmp_path), "--out", str(tmp_path / "job.json")]
    assert training_job.main(words) == 2
    assert "`showcase run image` does" in capsys.readouterr().err
    assert not (tmp_path / "job.json").exists()
