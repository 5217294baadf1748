"""The push: complete versions or none, each model once, and only models that both gates have blessed."""

import json
import os
import shutil
from pathlib import Path

import pytest
from tfx.types import standard_artifacts

from components.training.versioned_pusher import Executor, push

KEY = "pushed_model"


def write_model(folder: Path, text: str = "weights") -> Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "variables" / "data").write_text(text)
    (folder / "saved_model.pb").write_text(text)
    return folder


def test_two_models_become_versions_1_and_2_with_all_their_files(tmp_path: Path) -> None:
    base = tmp_path / "deep" / "versions"
    for number in (1, 2):
        source = write_model(tmp_path / f"m{number}", f"weights {number}")
        assert push(source, base) == base / str(number)
    assert sorted(p.name for p in base.iterdir()) == ["1", "2"]
    for number in (1, 2):
        files = sorted(str(p.relative_to(base / str(number))) for p in (base / str(number)).rglob("*") if p.is_file())
        assert files == ["assets.extra/origin.json", "saved_model.pb", "variables/data"]
        assert (base / str(number) / "variables" / "data").read_text() == f"weights {number}"
        origin = json.loads((base / str(number) / "assets.extra" / "origin.json").read_text())
        assert origin == {"model": str(tmp_path / f"m{number}")}


def test_versions_count_as_numbers_past_nine_and_past_gaps(tmp_path: Path) -> None:
    base = tmp_path / "versions"
    for name in ("2", "10", "notes", "11.old"):
        (base / name).mkdir(parents=True)
    assert push(write_model(tmp_path / "m"), base).name == "11"


def test_the_same_model_is_not_pushed_twice(tmp_path: Path) -> None:
    base, source = tmp_path / "versions", write_model(tmp_path / "m")
    first = push(source, base)
    push(write_model(tmp_path / "other"), base)
    assert push(source, base) == first
    assert sorted(p.name for p in base.iterdir()) == ["1", "2"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_copy_that_fails_midway_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    base = tmp_path / "versions"
    push(write_model(tmp_path / "old"), base)
    visible = []

    def half(source: Path, target: Path) -> None:
        target.mkdir()
        (target / "saved_model.pb").write_text("hal")
        visible.extend(p.name for p in base.iterdir() if p.name.isdigit())
        raise error

    monkeypatch.setattr(shutil, "copytree", half)
    with pytest.raises(type(error)):
        push(write_model(tmp_path / "new"), base)
    assert visible == ["1"] == [p.name for p in base.iterdir()]
    monkeypatch.undo()
    assert push(tmp_path / "new", base).name == "2"


def test_a_rename_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("read-only file system")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OSError, match="read-only"):
        push(write_model(tmp_path / "m"), tmp_path / "versions")
    assert list((tmp_path / "versions").iterdir()) == []


def test_leftovers_of_a_killed_push_are_removed(tmp_path: Path) -> None:
    base = tmp_path / "versions"
    write_model(base / ".incoming-1")
    write_model(base / ".incoming-99999999")
    assert push(write_model(tmp_path / "m"), base).name == "1"
    assert [p.name for p in base.iterdir()] == ["1"]


def run_pusher(tmp_path: Path, model_blessed: int, infra_blessed: int) -> tuple[standard_artifacts.PushedModel, Path]:
    """Run the executor on artifacts like those of the Evaluator and the ServingCheck."""
    write_model(tmp_path / "infra" / "stamped_model")
    blessing, infra = standard_artifacts.ModelBlessing(), standard_artifacts.InfraBlessing()
    pushed = standard_artifacts.PushedModel()
    infra.uri, pushed.uri = str(tmp_path / "infra"), str(tmp_path / "pushed")
    blessing.set_int_custom_property("blessed", model_blessed)
    infra.set_int_custom_property("blessed", infra_blessed)
    infra.set_int_custom_property("has_model", 1)
    base = tmp_path / "versions"
    destination = json.dumps({"filesystem": {"base_directory": str(base)}})
    inputs = {"model_blessing": [blessing], "infra_blessing": [infra]}
    Executor().Do(inputs, {KEY: [pushed]}, {"push_destination": destination})
    return pushed, base


def test_blessed_model_is_pushed_and_its_version_recorded(tmp_path: Path) -> None:
    pushed, base = run_pusher(tmp_path, 1, 1)
    assert (base / "1" / "variables" / "data").read_text() == "weights"
    assert pushed.get_int_custom_property("pushed") == 1
    assert pushed.get_string_custom_property("pushed_destination") == str(base / "1")
    assert pushed.get_string_custom_property("pushed_version") == "1"


@pytest.mark.parametrize(("model_blessed", "infra_blessed"), [(0, 1), (1, 0), (0, 0)])
def test_model_without_both_blessings_is_not_pushed(tmp_path: Path, model_blessed: int, infra_blessed: int) -> None:
    pushed, base = run_pusher(tmp_path, model_blessed, infra_blessed)
    assert pushed.get_int_custom_property("pushed") == 0 and pushed.has_custom_property("pushed")
    assert not base.exists()
