"""Cross-validation: how much of a metric is the luck of one split."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedKFold

from models.network import predict
from models.rows import Rows, picked
from models.training.refit import fit_rows


def cross_validate(
    network: Any, settings: Mapping[str, Any], train: Rows, valid: Rows, pretrained: str = ""
) -> list[dict[str, float]]:
    """Trains ``folds`` models, each on the train split without one fold; measures each on the fold it never saw.

    Training stops early on ``valid``, as the Trainer's does, and not on the fold: a fold that chose the epoch would
    flatter its own estimate. Folds are stratified by label and shuffled. Where rows are ordered in time or come in groups,
    such as purchases of a card, neighbours of a row lie in the folds it is trained on, and the estimate is the better one
    would get on other rows of the same days; the split by time stays the honest forecast.

    Returns:
        A dict a fold: ``rows`` of the fold, the network's metrics on it, and those on ``valid`` as ``valid_...``.

    Raises:
        ValueError: if there are fewer folds than two, or more than a class has rows.
    """
    found = []
    for number, (rest, fold) in enumerate(splits(train[network.LABEL], settings["folds"], settings["seed"])):
        fitted = fit_rows(network, settings, picked(train, rest), valid, pretrained)
        held = picked(train, fold)
        on_fold = network.quality(held[network.LABEL], predict(fitted.model, held))
        on_valid = network.quality(valid[network.LABEL], predict(fitted.model, valid))
        found.append({"rows": len(fold), **on_fold, **{f"valid_{name}": value for name, value in on_valid.items()}})
        print(
            f"fold {number + 1}/{settings['folds']} " + " ".join(f"{n}={v:.4f}" for n, v in found[-1].items()),
            flush=True,
        )
    return found


def splits(label: np.ndarray, folds: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Row numbers of all folds but one, and of that one, by scikit-learn's stratified splitter; label ``[rows, 1]``.

    Raises:
        ValueError: as :func:`cross_validate`.
    """
    flat = label[:, 0].astype(np.int64)
    least = int(np.unique(flat, return_counts=True)[1].min())
    if not 2 <= folds <= least:
        raise ValueError(
            f"folds is at least 2 and at most {least}, the rows of the rarest class in train, and not {folds}."
        )
    return StratifiedKFold(folds, shuffle=True, random_state=seed).split(flat, flat)


def summary(folds: list[dict[str, float]], metric: str) -> dict[str, float]:
    """Mean and standard deviation over the folds."""
    values = np.array([fold[metric] for fold in folds])
    return {"mean": float(values.mean()), "sd": float(values.std(ddof=1))}
