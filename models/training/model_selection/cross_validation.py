"""Cross-validation: how much a metric depends on one particular split."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedKFold

from models.network import predict
from models.rows import Rows, select_rows
from models.training.model_selection.refit import fit_rows


def cross_validate(
    network: Any, settings: Mapping[str, Any], train: Rows, valid: Rows, pretrained: str = ""
) -> list[dict[str, float]]:
    """Train ``folds`` models, each on the train split without one fold, and measure each on its held-out fold.

    Early stopping uses ``valid``, as in the Trainer, not the fold: choosing the epoch on the fold would make its
    estimate optimistic. Folds are stratified by label and shuffled. Where rows are ordered in time or grouped, such as
    the purchases of a card, a row's neighbours are in its training folds. The estimate is then for other rows of the
    same days, and too optimistic for future days; for those use the split by time.

    Returns:
        One dict for each fold: ``rows`` of the fold, the network's metrics on it, and those on ``valid`` as
        ``valid_...``.

    Raises:
        ValueError: if there are fewer than two folds, or more folds than rows of the rarest class.
    """
    results = []
    for number, (train_index, fold_index) in enumerate(
        split_folds(train[network.LABEL], settings["folds"], settings["seed"])
    ):
        fitted = fit_rows(network, settings, select_rows(train, train_index), valid, pretrained)
        fold_rows = select_rows(train, fold_index)
        on_fold = network.quality(fold_rows[network.LABEL], predict(fitted.model, fold_rows))
        on_valid = network.quality(valid[network.LABEL], predict(fitted.model, valid))
        results.append(
            {"rows": len(fold_index), **on_fold, **{f"valid_{name}": value for name, value in on_valid.items()}}
        )
        print(
            f"fold {number + 1}/{settings['folds']} " + " ".join(f"{n}={v:.4f}" for n, v in results[-1].items()),
            flush=True,
        )
    return results


def split_folds(label: np.ndarray, folds: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the row numbers to train on and those of the fold, stratified by label ``[rows, 1]``.

    Raises:
        ValueError: as :func:`cross_validate`.
    """
    classes = label[:, 0].astype(np.int64)
    rarest = int(np.unique(classes, return_counts=True)[1].min())
    if not 2 <= folds <= rarest:
        raise ValueError(
            f"folds must be at least 2 and at most {rarest}, the rows of the rarest class in train, not {folds}."
        )
    return StratifiedKFold(folds, shuffle=True, random_state=seed).split(classes, classes)


def summarize(folds: list[dict[str, float]], metric: str) -> dict[str, float]:
    """Mean and standard deviation over the folds."""
    values = np.array([fold[metric] for fold in folds])
    return {"mean": float(values.mean()), "sd": float(values.std(ddof=1))}
