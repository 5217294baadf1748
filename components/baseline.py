"""Simple models on the same features, the same split and the same metric, so that the network has to earn its place."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.artifact import Artifact
from tfx.types.standard_artifacts import Examples, Model, TransformGraph
from tfx.utils import path_utils

from models.catalog import find
from models.input import Transform, files, load

SEED = 1
WIDE = 20_000_000  # cells of a table from which logistic regression gets fewer iterations


class Comparison(Artifact):
    """A folder with ``comparison.json``: a row a model with its metric, training seconds and size."""

    TYPE_NAME = "Comparison"


@component
def Baseline(
    examples: InputArtifact[Examples],
    transform_graph: InputArtifact[TransformGraph],
    model: InputArtifact[Model],
    config: Parameter[str],
    comparison: OutputArtifact[Comparison],
):
    """Trains logistic regression and LightGBM on the train split and scores them and the network on eval."""
    told = json.loads(config)
    network = find(told["case"]).load("model")
    transform = Transform(transform_graph.uri)
    keep = (*network.INPUTS, network.LABEL)
    train, valid, held = (load(files(examples.uri, split), transform, keep) for split in ("train", "valid", "eval"))
    rows = [
        {"model": name, **_scored(network, fit, train, valid, held)}
        for name, fit in (("logistic regression", _logistic), ("LightGBM", _lightgbm))
    ]
    rows.append({"model": "network", **_network(network, path_utils.serving_model_path(model.uri), held)})
    Path(comparison.uri, "comparison.json").write_text(json.dumps({"metric": network.MONITOR, "rows": rows}, indent=1))


def table(network: Any, features: dict[str, np.ndarray]) -> np.ndarray:
    """All inputs of the network side by side, ``[rows, columns]`` float32; sequences flattened."""
    return np.concatenate(
        [features[n].reshape(len(features[n]), -1).astype(np.float32) for n in network.INPUTS], axis=1
    )


def _scored(network: Any, fit: Any, train: dict, valid: dict, held: dict) -> dict[str, float]:
    started = time.perf_counter()
    score = fit(table(network, train), train[network.LABEL][:, 0], table(network, valid), valid[network.LABEL][:, 0])
    seconds = time.perf_counter() - started
    scores = score(table(network, held))
    return {"metric": network.quality(held[network.LABEL], scores)[network.MONITOR], "seconds": seconds}


def _logistic(x: np.ndarray, y: np.ndarray, _x: np.ndarray, _y: np.ndarray) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    wide = x.size > WIDE
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=30 if wide else 200)).fit(x, y)
    return lambda held: _columns(model.predict_proba(held))


def _lightgbm(x: np.ndarray, y: np.ndarray, valid_x: np.ndarray, valid_y: np.ndarray) -> Any:
    import lightgbm

    several = len(np.unique(y)) > 2
    # A tree a class and round: with several classes fewer rounds, each of a larger step, over a part of the columns.
    shape = {
        "n_estimators": 40,
        "learning_rate": 0.2,
        "num_leaves": 15,
        "min_child_samples": 10,
        "colsample_bytree": 0.2,
    }
    if not several:
        shape = {
            "n_estimators": 400,
            "learning_rate": 0.05,
            "num_leaves": 31,
            "min_child_samples": 40,
            "colsample_bytree": 0.7,
        }
    # One thread: beside other stages LightGBM's spinning threads took twenty times as long.
    model = lightgbm.LGBMClassifier(**shape, subsample=0.8, subsample_freq=1, random_state=SEED, n_jobs=1, verbose=-1)
    stop = lightgbm.early_stopping(30, verbose=False)
    metric = "multi_logloss" if several else "average_precision"
    model.fit(x, y, eval_X=valid_x, eval_y=valid_y, eval_metric=metric, callbacks=[stop])
    return lambda held: _columns(model.predict_proba(held))


def _columns(probabilities: np.ndarray) -> np.ndarray:
    """Of two classes the positive one only, ``[rows, 1]``, as the networks answer."""
    return probabilities[:, 1:] if probabilities.shape[1] == 2 else probabilities


def _network(network: Any, path: str, held: dict) -> dict[str, float]:
    signature = tf.saved_model.load(path).signatures["dense"]
    parts = []
    for start in range(0, len(held[network.LABEL]), 8192):
        answer = signature(**{name: tf.constant(held[name][start : start + 8192]) for name in network.INPUTS})
        parts.append(answer[network.SCORE].numpy())
    scores = np.concatenate(parts).reshape(len(held[network.LABEL]), -1)
    return {"metric": network.quality(held[network.LABEL], scores)[network.MONITOR]}
