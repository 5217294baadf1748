"""A training job's fields from the artifacts of a run, and invalid settings."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from models.catalog import CASES
from pipeline.home import Home
from pipeline.kubeflow import training_job
from pipeline.metadata import store
from pipeline.run import Run

ARTIFACTS = {
    "SpanExampleGen": {"examples": SimpleNamespace(uri="/made/examples")},
    "Transform": {"transform_graph": SimpleNamespace(uri="/made/graph")},
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a run that trained with pretrained embeddings, and a later run that ended before training."""
    (tmp_path / "run" / "pretrained").mkdir(parents=True)
    trained_artifacts = ARTIFACTS | {"Trainer": {"model_run": SimpleNamespace(uri=str(tmp_path / "run"))}}
    settings = CASES["fraud"].configure({"epochs": "7", "rows": "3000"})
    for name in ("run-1", "run-2"):
        store.save(
            Home(tmp_path).metadata,
            Run(name, "fraud", "pushed", "", "x", {"settings": json.dumps(settings)}),
        )
    monkeypatch.setattr(store, "outputs", lambda _, run: trained_artifacts if run == "run-1" else ARTIFACTS)
    return tmp_path


def test_job_has_the_runs_artifacts_and_changed_settings(home: Path) -> None:
    fields = training_job.collect_job_fields("fraud", home, {"strategy": "multiworker", "workers": "4"}, "mine")
    assert (fields["examples"], fields["transform"]) == ("/made/examples", "/made/graph")
    # Not the embedding's own folder: the Trainer reorders its rows to the vocabulary of the transform graph.
    assert fields["pretrained"] == str(home / "run" / "pretrained")
    assert fields["folder"] == str(home / "fraud" / "training" / "mine")
    assert (fields["settings"]["strategy"], fields["settings"]["workers"]) == ("multiworker", 4)
    assert (fields["settings"]["epochs"], fields["settings"]["rows"]) == (7, 3000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": "900"}, "'rows' is not a training setting"),
        ({"epoch": "9"}, "no setting 'epoch'"),
        ({"strategy": "everywhere"}, "everywhere"),
    ],
)
def test_invalid_settings_are_an_error(home: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        training_job.collect_job_fields("fraud", home, changes, "mine")


def test_without_a_run_the_command_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["image", "--home", str(tmp_path), "--out", str(tmp_path / "job.json")]
    assert training_job.main(arguments) == 2
    assert "`showcase run image` trains one" in capsys.readouterr().err
    assert not (tmp_path / "job.json").exists()
