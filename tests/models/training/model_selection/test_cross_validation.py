"""Cross-validation: the rows of each fold, and the quality of the estimate."""

import json
import types
from pathlib import Path

import numpy as np
import pytest
from support.built_case import get_built_case
from support.points import draw_points
from support.tiny_case import model as tiny
from support.tiny_case.case import CASE as TINY

from models import catalog
from models.network import predict
from models.training import entry_point
from models.training.model_selection import cross_validation

pytestmark = pytest.mark.system

SETTINGS = {**TINY.settings["training"], "epochs": 6, "width": 16, "patience": 2, "folds": 4}


def test_every_row_is_held_out_once_and_classes_keep_their_share() -> None:
    label = (np.arange(600) % 10 == 0).astype(np.int64)[:, None]
    held_out = []
    for rest, fold in cross_validation.split_folds(label, 4, 1):
        assert not set(rest) & set(fold) and len(rest) + len(fold) == 600
        assert label[fold].sum() == 15
        held_out += list(fold)
    assert sorted(held_out) == list(range(600))
    again = [list(fold) for _, fold in cross_validation.split_folds(label, 4, 1)]
    assert again == [list(fold) for _, fold in cross_validation.split_folds(label, 4, 1)]
    assert again != [list(fold) for _, fold in cross_validation.split_folds(label, 4, 2)]


@pytest.mark.parametrize("number", [1, 6])
def test_impossible_number_of_folds_is_refused(number: int) -> None:
    label = np.array([[0]] * 20 + [[1]] * 5)
    with pytest.raises(ValueError, match=f"at least 2 and at most 5.*not {number}"):
        list(cross_validation.split_folds(label, number, 1))


@pytest.fixture(scope="module")
def folds() -> list[dict[str, float]]:
    train = draw_points(400, 1)
    return cross_validation.cross_validate(tiny, SETTINGS, train, draw_points(200, 2))


def test_the_mean_over_folds_is_near_the_truth(folds: list[dict[str, float]]) -> None:
    assert [fold["rows"] for fold in folds] == [100] * 4
    summary = cross_validation.summarize(folds, "accuracy")
    values = [fold["accuracy"] for fold in folds]
    assert summary["mean"] == pytest.approx(sum(values) / 4)
    assert summary["sd"] == pytest.approx(np.std(values, ddof=1))
    unseen = draw_points(4000, 9)
    fitted = train_model(draw_points(400, 1))
    true = tiny.quality(unseen["above"], predict(fitted, unseen))["accuracy"]
    assert abs(summary["mean"] - true) < 0.06


def train_model(train: dict[str, np.ndarray]):
    from models.training.model_selection.refit import fit_rows

    return fit_rows(tiny, SETTINGS, train, draw_points(200, 2)).model


def test_random_labels_give_chance_accuracy() -> None:
    """If training used a fold, or the fold chose the epoch, a wide network would beat chance on it."""
    generator = np.random.default_rng(3)
    train, valid = (
        {**draw_points(rows, seed), "above": generator.integers(0, 2, (rows, 1))} for rows, seed in ((400, 4), (100, 5))
    )
    settings = {**SETTINGS, "width": 64, "epochs": 5, "batch_size": 16, "patience": 0}
    scores = [fold["accuracy"] for fold in cross_validation.cross_validate(tiny, settings, train, valid)]
    assert abs(np.mean(scores) - 0.5) < 0.1


def test_trainer_records_folds_if_configured(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_run = get_built_case(TINY, tmp_path_factory)
    monkeypatch.setitem(catalog.CASES, TINY.name, TINY)
    entry_point.run_fn(
        types.SimpleNamespace(
            custom_config={"case": TINY.name, "settings": {**small_run.settings, "folds": 2}},
            hyperparameters=None,
            transform_graph_path=str(small_run.graph),
            train_files=[str(small_run.examples / "Split-train" / "*")],
            serving_model_dir=str(tmp_path / "model"),
            model_run_dir=str(tmp_path / "run"),
        )
    )
    record = json.loads((tmp_path / "run" / "training.json").read_text())
    assert len(record["folds"]) == 2 and sum(fold["rows"] for fold in record["folds"]) == record["rows"]
    fit = record["fit"]
    assert fit["metric"] == "accuracy" and fit["train"]["rows"] == record["rows"]
    assert fit["valid"]["accuracy"] == pytest.approx(record["valid"]["accuracy"])
    best_curve = record["curves"][record["best_epoch"]]
    assert fit["valid"]["loss"] == pytest.approx(best_curve["valid_loss"], abs=1e-5)
