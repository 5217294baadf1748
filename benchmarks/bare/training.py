"""Training of the network with plain Keras, the baselines, and their metrics."""

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

import keras
import lightgbm
import numpy as np
import polars as pl
import tensorflow as tf
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.bare.columns import LABEL, Arrays
from models.fraud import model as network

PREDICT_BATCH = 4096
# As in components/training/baseline.py, which imports TFX.
WIDE = 20_000_000


class Validation(keras.callbacks.Callback):
    """Adds loss and metric on the validation split to the epoch's logs, where early stopping reads them."""

    def __init__(self, valid: Arrays, loss: Callable[[Any, Any], Any]):
        super().__init__()
        self._valid, self._loss = valid, loss

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        logits, truth = predict(self.model, self._valid), self._valid[LABEL]
        logs |= {"valid_loss": float(tf.reduce_mean(self._loss(truth, logits))), **network.quality(truth, logits)}
        line = " ".join(f"{name}={value:.4f}" for name, value in logs.items())
        print(f"  epoch {epoch + 1} {line}", file=sys.stderr, flush=True)


def fit(settings: Mapping[str, Any], train: Arrays, valid: Arrays) -> tuple[keras.Model, int]:
    """Train with plain Keras; return the model with its best weights, and the number of epochs."""
    keras.utils.set_random_seed(settings["seed"])
    rows, batch = len(train[LABEL]), min(settings["batch_size"], len(train[LABEL]))
    steps = rows // batch
    epochs = min(settings["epochs"], -(-settings["max_steps"] // steps))
    specs = {name: tf.TensorSpec([None, *train[name].shape[1:]], train[name].dtype) for name in network.INPUTS}
    model, loss = network.build(settings, specs), network.loss(settings)
    rate = keras.optimizers.schedules.CosineDecay(settings["learning_rate"], steps * epochs, alpha=0.02)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=settings["weight_decay"])
    # By default Keras compiles with XLA, which took ten times as long on two cores.
    model.compile(optimizer, loss, jit_compile=False)
    # Whole batches only, as the pipeline has them, so that steps and schedule are the same.
    selected = np.random.default_rng(settings["seed"]).permutation(rows)[: steps * batch]
    x, y = {name: train[name][selected] for name in network.INPUTS}, train[LABEL][selected]
    best = keras.callbacks.EarlyStopping(
        network.MONITOR, mode="max", patience=settings["patience"], restore_best_weights=True
    )
    history = model.fit(x, y, batch, epochs, verbose=0, callbacks=[Validation(valid, loss), best])
    return model, len(history.epoch)


def predict(model: keras.Model, features: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return logits and anomaly scores, ``[rows, 2]``."""
    return model.predict({name: features[name] for name in network.INPUTS}, batch_size=PREDICT_BATCH, verbose=0)


def score_baseline(make: Callable[..., Any], features: Mapping[str, Arrays]) -> float:
    """Return the PR-AUC on eval of a simple model on the same features."""
    tables = [
        np.concatenate([part[n].reshape(len(part[n]), -1).astype(np.float32) for n in network.INPUTS], axis=1)
        for part in features.values()
    ]
    fitted = make(tables[0], features["train"][LABEL][:, 0], tables[1], features["valid"][LABEL][:, 0])
    return float(average_precision_score(features["eval"][LABEL][:, 0], fitted.predict_proba(tables[2])[:, 1]))


def _fit_logistic(x: np.ndarray, y: np.ndarray, _x: np.ndarray, _y: np.ndarray) -> Any:
    iterations = 30 if x.size > WIDE else 200
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=iterations)).fit(x, y)


def _fit_lightgbm(x: np.ndarray, y: np.ndarray, valid_x: np.ndarray, valid_y: np.ndarray) -> Any:
    model = lightgbm.LGBMClassifier(
        n_estimators=400,
        learning_rate=0.05,
        num_leaves=31,
        min_child_samples=40,
        subsample=0.8,
        subsample_freq=1,
        colsample_bytree=0.7,
        random_state=1,
        n_jobs=1,
        verbose=-1,
    )
    stop = lightgbm.early_stopping(30, verbose=False)
    return model.fit(x, y, eval_X=valid_x, eval_y=valid_y, eval_metric="average_precision", callbacks=[stop])


BASELINES = {"logistic regression": _fit_logistic, "LightGBM": _fit_lightgbm}


def evaluate(
    model: keras.Model, point: Mapping[str, float], settings: Mapping[str, Any], frame: pl.DataFrame, features: Arrays
) -> dict[str, dict[str, float]]:
    """Compute the metrics of the served answers on the whole eval split and by slice."""
    logits = tf.constant(predict(model, features))
    answers = {name: value.numpy() for name, value in network.answers(logits, point, settings).items()}
    rows = {"overall": np.ones(frame.height, bool)}
    for name in ("channel", "category"):
        column = frame[name].fill_null("")
        rows |= {f"{name} {value}": (column == value).to_numpy() for value in column.unique().sort()}
    truth = features[LABEL][:, 0]
    return {
        n: _compute_metrics(truth[r], answers["score"][r], answers["decision"][r], settings) for n, r in rows.items()
    }


def _compute_metrics(
    truth: np.ndarray, score: np.ndarray, stop: np.ndarray, settings: Mapping[str, Any]
) -> dict[str, float]:
    hit, missed, alarm = ((truth * stop).sum(), (truth * (1 - stop)).sum(), ((1 - truth) * stop).sum())
    both = 0 < truth.sum() < len(truth)
    metrics = {
        "rows": len(truth),
        "pr_auc": average_precision_score(truth, score) if both else math.nan,
        "roc_auc": roc_auc_score(truth, score) if both else math.nan,
        "calibration": score.sum() / truth.sum() if both else math.nan,
        "precision": hit / max(hit + alarm, 1),
        "recall": hit / max(hit + missed, 1),
        "cost": (missed * settings["miss_cost"] + alarm * settings["review_cost"]) / len(truth),
    }
    return {name: float(value) for name, value in metrics.items()}
