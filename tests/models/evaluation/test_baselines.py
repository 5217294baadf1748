"""The baselines: the effect of their parameters, and their quality against scikit-learn."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score

from models.evaluation import baselines
from models.evaluation.baselines import FeatureTable


def create_table(rows: int, columns: int = 8, classes: int = 2, seed: int = 1) -> FeatureTable:
    """Classes that depend on an interaction of two columns, so that no line separates them; the rest is noise."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, columns)).astype(np.float32)
    angle = np.arctan2(x[:, 0] * x[:, 1], x[:, 2] + 0.3 * generator.normal(size=rows))
    return FeatureTable(
        tuple(f"x.{n}" for n in range(columns)), x, ((angle + np.pi) / (2 * np.pi) * classes).astype(int) % classes
    )


def depths(node: object, depth: int = 1) -> list[int]:
    return [depth] if node.is_leaf else [depth, *depths(node.neg_child, depth + 1), *depths(node.pos_child, depth + 1)]


def test_the_forests_parameters_decide_the_saved_forest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs, features per node, sample, trees and nodes, each read from the files of a forest that was saved."""
    train = create_table(3000)
    plain = FeatureTable(train.names, train.x, (train.x[:, 4] > 0).astype(int))

    def grown(data: FeatureTable, name: str, **changes: float) -> tuple[list[list[int]], set[str]]:
        """Depths of all nodes of each tree, and the columns that roots split."""
        for key, value in changes.items():
            monkeypatch.setattr(baselines, key, value)
        baselines.fit_random_forest(data, data).save(tmp_path / name)
        model = baselines.load_forest(tmp_path / name)
        assert sorted(model.input_feature_names()) == sorted(data.names)
        trees = [depths(tree.root) for tree in model.iter_trees()]
        assert sum(map(len, trees)) == model.num_nodes()
        columns = [model.data_spec().columns[tree.root.condition.attribute].name for tree in model.iter_trees()]
        return trees, set(columns)

    trees, _ = grown(train, "trees", TREES=12)
    assert len(trees) == 12
    assert max(map(max, trees)) <= baselines.forest_settings(*train.x.shape)["max_depth"]
    small, _ = grown(train, "sample", TREE_ROWS=300)
    assert len(small) == 12 and sum(map(len, small)) < 0.3 * sum(map(len, trees))
    # A node that tries every column finds the informative one; a node that tries one column splits on whatever it draws.
    _, of_all = grown(plain, "all", TREE_ROWS=60_000, COLUMNS=1.0)
    _, of_one = grown(plain, "one", COLUMNS=1 / 8)
    assert of_all == {"x.4"} and len(of_one) > 2


def test_maximum_nodes_apply_only_to_best_first_growth() -> None:
    import ydf

    train = create_table(2000)
    data = {**dict(zip(train.names, train.x.T.copy(), strict=True)), "y": train.y}

    def largest(**settings: int | str) -> int:
        model = ydf.RandomForestLearner(label="y", num_trees=3, **settings).train(data, verbose=0)
        return max(len(depths(tree.root)) for tree in model.iter_trees())

    # YDF counts leaves: 21 of them make a binary tree of 41 nodes.
    assert largest(growing_strategy="BEST_FIRST_GLOBAL", max_num_nodes=21) == 41 < 100 < largest()
    assert largest(max_depth=4) <= 2**4 - 1
    with pytest.raises(ValueError, match="only available with"):
        largest(max_num_nodes=21)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_forest_is_as_good_as_scikit_learns(classes: int) -> None:
    train, heldout = create_table(3000, classes=classes), create_table(3000, classes=classes, seed=2)
    oracle = RandomForestClassifier(50, max_features=0.3, min_samples_leaf=3, random_state=1).fit(train.x, train.y)
    scores_of_forest = baselines.fit_random_forest(train, train).scores(heldout.x, classes)
    assert np.allclose(scores_of_forest.sum(axis=1), 1, atol=1e-5)
    areas = [
        roc_auc_score(heldout.y == 1, scores[:, 1]) for scores in (scores_of_forest, oracle.predict_proba(heldout.x))
    ]
    assert areas[0] > 0.8 and areas[0] == pytest.approx(areas[1], abs=0.02)


def test_trees_learn_an_interaction_and_logistic_regression_does_not() -> None:
    train, valid, heldout = (create_table(3000, seed=seed) for seed in (1, 2, 3))
    areas = {
        name: roc_auc_score(heldout.y, fit(train, valid).scores(heldout.x, 1)[:, 0])
        for name, fit in baselines.BASELINES.items()
    }
    assert areas["logistic regression"] < 0.6
    assert min(areas["random forest"], areas["LightGBM"]) > 0.8


@pytest.mark.parametrize("name", baselines.BASELINES)
def test_scores_have_the_networks_shape_and_every_class_its_column(name: str) -> None:
    """One output is the positive class, two are both, and a class that is not in the train split has score zero."""
    train = create_table(600)
    model = baselines.BASELINES[name](train, train)
    single, both = model.scores(train.x, 1), model.scores(train.x, 2)
    assert single.shape == (600, 1) and both.shape == (600, 2)
    assert np.allclose(single[:, 0], both[:, 1]) and roc_auc_score(train.y, single[:, 0]) > 0.5
    gap = FeatureTable(train.names, train.x, np.where(train.y == 1, 3, np.arange(600) % 2))
    scores = baselines.BASELINES[name](gap, gap).scores(gap.x, 4)
    assert scores.shape == (600, 4) and (scores[:, 2] == 0).all() and (scores[:, [0, 1, 3]].max(axis=0) > 0).all()


@pytest.mark.parametrize("name", baselines.BASELINES)
def test_baseline_is_reproducible_and_can_be_saved(name: str, tmp_path: Path) -> None:
    train = create_table(500)
    first, second = (baselines.BASELINES[name](train, train) for _ in range(2))
    assert np.array_equal(first.score(train.x), second.score(train.x))
    first.save(tmp_path / "saved")
    assert (tmp_path / "saved").exists()


def test_loaded_forest_agrees_with_the_fitted_one(tmp_path: Path) -> None:
    train = create_table(500)
    fitted = baselines.fit_random_forest(train, train)
    fitted.save(tmp_path / "forest")
    model = baselines.load_forest(tmp_path / "forest")
    assert np.allclose(baselines.predict_forest(model, train.names, train.x), fitted.score(train.x), atol=1e-6)


def test_forest_settings_are_bounded_for_large_and_wide_tables() -> None:
    medium, large, wide = (baselines.forest_settings(*shape) for shape in ((50_000, 50), (600_000, 30), (60_000, 784)))
    assert medium["bootstrap_size_ratio"] == 1 and medium["num_candidate_attributes_ratio"] == baselines.COLUMNS
    assert large["bootstrap_size_ratio"] * 600_000 == pytest.approx(baselines.TREE_ROWS)
    assert "num_candidate_attributes_ratio" not in wide
    assert wide["num_trees"] < medium["num_trees"]
    assert wide["bootstrap_size_ratio"] * 60_000 == pytest.approx(baselines.SMALL_ROWS)


def test_a_table_names_its_columns_by_input() -> None:
    features = {"a": np.ones((3, 2, 2)), "b": np.zeros((3, 1)), "label": np.array([[0], [1], [1]])}
    concatenated = FeatureTable.of(("a", "b"), "label", features)
    assert concatenated.names == ("a.0", "a.1", "a.2", "a.3", "b.0")
    assert (
        concatenated.x.shape == (3, 5) and concatenated.x.dtype == np.float32 and concatenated.y.tolist() == [0, 1, 1]
    )
