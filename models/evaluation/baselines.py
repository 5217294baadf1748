"""Simple models on a plain table: each family one function, so that the networks have to earn their place."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SEED = 1
WIDE = 20_000_000  # cells of a table from which logistic regression gets fewer iterations
TREE_ROWS = 60_000  # rows that one tree of the forest is grown on, at most
TREES = 50
COLUMNS = 0.3  # share of the columns that a node looks at
# Of a picture's many columns every node sorts through hundreds: there fewer and smaller trees, and their square root.
MANY_COLUMNS, SMALL_TREES, SMALL_ROWS = 256, 15, 10_000


@dataclass(frozen=True)
class Table:
    """Examples as a table.

    Attributes:
        names: Name of each column, such as ``numeric.3``.
        x: ``[rows, columns]`` float32.
        y: Class of each row, ``[rows]``.
    """

    names: tuple[str, ...]
    x: np.ndarray
    y: np.ndarray

    @classmethod
    def of(cls, inputs: Sequence[str], label: str, features: Mapping[str, np.ndarray]) -> "Table":
        """All inputs of a network side by side; sequences and pictures are flattened."""
        parts = {name: features[name].reshape(len(features[name]), -1) for name in inputs}
        names = tuple(f"{name}.{column}" for name, part in parts.items() for column in range(part.shape[1]))
        x = np.concatenate([part.astype(np.float32) for part in parts.values()], axis=1)
        return cls(names, x, features[label][:, 0].astype(np.int64))

    @property
    def wide(self) -> bool:
        """Whether a fit would take minutes."""
        return self.x.size > WIDE


@dataclass(frozen=True)
class Fitted:
    """A model that has been fitted.

    Attributes:
        score: From ``[rows, columns]`` to the probability of each class, ``[rows, classes]``, in the order of ``classes``.
        classes: The classes there were.
        save: Writes the model to a path that is not there yet.
        settings: What it was fitted with.
    """

    score: Callable[[np.ndarray], np.ndarray]
    classes: np.ndarray
    save: Callable[[Path], object]
    settings: Mapping[str, Any]

    def scores(self, x: np.ndarray, outputs: int) -> np.ndarray:
        """As the network answers: of one output the positive class alone, else a column a class, ``[rows, outputs]``."""
        full = np.zeros((len(x), max(outputs, 2)))
        full[:, self.classes] = self.score(x)
        return full[:, 1:] if outputs == 1 else full


def logistic(train: Table, valid: Table) -> Fitted:
    """Logistic regression on z-scores; ``valid`` is not used."""
    import joblib
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    settings = {"max_iter": 30 if train.wide else 200}
    model = make_pipeline(StandardScaler(), LogisticRegression(**settings)).fit(train.x, train.y)
    return Fitted(model.predict_proba, model.classes_, lambda path: joblib.dump(model, path), settings)


def boosted(train: Table, valid: Table) -> Fitted:
    """Gradient-boosted trees (LightGBM), stopped by the metric on ``valid``."""
    import lightgbm

    several = len(np.unique(train.y)) > 2
    # A tree a class and round: with several classes fewer rounds, each of a larger step, over a part of the columns.
    settings = {
        "n_estimators": 40 if several else 400,
        "learning_rate": 0.2 if several else 0.05,
        "num_leaves": 15 if several else 31,
        "min_child_samples": 10 if several else 40,
        "colsample_bytree": 0.2 if several else 0.7,
        "subsample": 0.8,
        "subsample_freq": 1,
    }
    # One thread: beside other stages LightGBM's spinning threads took twenty times as long.
    model = lightgbm.LGBMClassifier(**settings, random_state=SEED, n_jobs=1, verbose=-1)
    stop = lightgbm.early_stopping(30, verbose=False)
    metric = "multi_logloss" if several else "average_precision"
    model.fit(train.x, train.y, eval_X=valid.x, eval_y=valid.y, eval_metric=metric, callbacks=[stop])
    settings["trees"] = int(model.best_iteration_ or model.n_estimators)
    return Fitted(model.predict_proba, model.classes_, model.booster_.save_model, settings)


def forest(train: Table, valid: Table) -> Fitted:
    """A random forest (Yggdrasil, Breiman 2001); ``valid`` is not used.

    Every tree draws a sample of its own, of ``TREE_ROWS`` rows at most, so that its price does not grow with the data
    while the forest as a whole still sees all rows. Numbers and columns were chosen on the fraud case's valid split.

    Question: A26
    Answer: TF 1's estimator took six: number of inputs, features tried per node, batch or sample, steps, trees, maximum
        nodes. TF-DF and now YDF replaced it. Inputs are the data set's columns; features per node
        num_candidate_attributes; the sample bootstrap_size_ratio; steps are gone, as a tree is grown once on data in
        memory; trees num_trees; max_num_nodes counts under best-first growth, else max_depth and min_examples bound.
        Forests are hard to beat on tables.
    Evidence: tour.evidence.simple_models.forest
    Proof: tests/models/evaluation/test_baselines.py::test_the_forests_parameters_decide_the_saved_forest
    """
    import ydf

    settings = forest_settings(*train.x.shape)
    learner = ydf.RandomForestLearner(label="y", random_seed=SEED, num_threads=1, **settings)
    model = learner.train({**_columns(train.names, train.x), "y": train.y}, verbose=0)
    classes = np.array([int(name) for name in model.label_classes()])
    return Fitted(lambda x: forest_scores(model, train.names, x), classes, lambda path: model.save(str(path)), settings)


def opened(path: Path) -> Any:
    """A saved forest; without the lines that YDF prints."""
    import ydf

    before = ydf.verbose(0)
    try:
        return ydf.load_model(str(path))
    finally:
        ydf.verbose(before)


def forest_settings(rows: int, columns: int) -> dict[str, Any]:
    """What the forest is grown with, for a table of that size."""
    many = columns > MANY_COLUMNS
    return {
        "num_trees": SMALL_TREES if many else TREES,
        # The usual square root of their number looks at too few where many columns say little.
        **({} if many else {"num_candidate_attributes_ratio": COLUMNS}),
        "bootstrap_size_ratio": min(1.0, (SMALL_ROWS if many else TREE_ROWS) / rows),
        "max_depth": 16,
        "min_examples": 5,
        "winner_take_all": False,  # trees give shares and not votes: scores are finer
        "discretize_numerical_columns": True,  # 255 quantiles a column: a third of the time of exact splits
        "compute_oob_performances": False,
    }


def forest_scores(model: Any, names: Sequence[str], x: np.ndarray) -> np.ndarray:
    """Share of each class, ``[rows, classes]``, from a forest that was fitted or opened."""
    found = model.predict(_columns(names, x))
    return np.stack([1 - found, found], axis=1) if found.ndim == 1 else found


def _columns(names: Sequence[str], x: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(names, np.ascontiguousarray(x.T), strict=True))


FITS: Mapping[str, Callable[[Table, Table], Fitted]] = {
    "logistic regression": logistic,
    "LightGBM": boosted,
    "random forest": forest,
}
