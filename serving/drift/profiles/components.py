"""Components of a column that are tested for drift.

A component is linear in the column's shares, so that windows of any number of days can be compared.
"""

from dataclasses import dataclass

import numpy as np
from scipy import special

from serving.drift.profiles.bins import Column, NumericColumn

MIN_CATEGORY_SHARE = 0.005  # categories with a smaller share are counted together
SHAPE_GROUPS = 16  # groups of bins that a shape is tested on
SCORE_BOUND = (
    1.5  # normal scores are clipped here (Huber), so that a run of outliers is not taken for a shift of all values
)
# Columns that measure the same thing are a family: pixels, softmax outputs, and a score with the decision based on it.
FAMILIES = {
    "brightness": "pixels",
    "contrast": "pixels",
    "roughness": "pixels",
    "confidence": "softmax",
    "entropy": "softmax",
    "score": "predicted",
}


@dataclass(frozen=True)
class Component:
    """One statistic of a column: ``shares @ weights`` is compared between windows.

    Attributes:
        column, name: Column, and ``location``, ``spread``, ``shape``, or ``share of`` a value.
        weights: ``[bins, q]``; q is 1 except for a shape.
    """

    column: str
    name: str
    weights: np.ndarray

    @property
    def family(self) -> str:
        """The column, or the group of columns that measure the same thing."""
        return FAMILIES.get(self.column, self.column)

    @property
    def kind(self) -> str:
        """``location``, ``spread``, ``shape`` or ``share``."""
        return self.name.split()[0]


def build_components(column: Column, bins: np.ndarray) -> list[Component]:
    """Components of a column, from the reference's counts ``[bins]``; empty if the column has a single value."""
    shares = bins / max(bins.sum(), 1)
    if (shares > 0).sum() < 2:
        return []
    if isinstance(column, NumericColumn):
        return [
            *_location_and_spread(column.name, shares),
            Component(column.name, "shape", _chi_squared_weights(shares, _group_bins(shares))),
        ]
    bin_of_group, groups = np.unique(
        np.where(shares >= MIN_CATEGORY_SHARE, np.arange(len(shares)), len(shares) - 1), return_inverse=True
    )
    shape = _chi_squared_weights(shares, groups)
    values = [
        (*column.values, "others")[index]
        for index, share in zip(bin_of_group, np.bincount(groups, shares), strict=True)
        if share
    ]
    single_shares = [Component(column.name, f"share of {name}", shape[:, [index]]) for index, name in enumerate(values)]
    # Two values have one independent share. A change of one value among many shows sooner in its own share than in the shape.
    return single_shares[:1] if len(single_shares) < 3 else [Component(column.name, "shape", shape), *single_shares]


def _location_and_spread(name: str, shares: np.ndarray) -> list[Component]:
    """Location: clipped normal scores of the reference's ranks. Spread: their squares. Both have mean 0 and deviation 1.

    Ranks are robust against single outliers. Bins that are empty in the reference lie at the ends and get the scores of
    its outermost bins, since a small reference does not contain all values that undrifted rows occasionally reach.
    """
    middle, occupied = np.cumsum(shares) - shares / 2, shares > 0
    scores = special.ndtri(np.clip(middle, 1e-4, 1 - 1e-4))
    scores = _standardize(np.clip(scores, scores[occupied].min(), scores[occupied].max()), shares)
    spread = scores**2
    spread = _standardize(spread - scores * (shares @ (scores * spread)), shares)
    location = _standardize(np.clip(scores, -SCORE_BOUND, SCORE_BOUND), shares)
    return [
        Component(name, kind, weights[:, None])
        for kind, weights in (("location", location), ("spread", spread))
        if weights.any()
    ]


def _standardize(values: np.ndarray, shares: np.ndarray) -> np.ndarray:
    centred = values - shares @ values
    deviation = np.sqrt(shares @ centred**2)
    return centred / deviation if deviation > 1e-9 else np.zeros(len(values))


def _group_bins(shares: np.ndarray) -> np.ndarray:
    """Group index of each bin, ``[bins]``: neighbouring bins joined to about ``SHAPE_GROUPS`` groups of equal shares."""
    group = np.minimum((np.cumsum(shares) - shares / 2) * SHAPE_GROUPS, SHAPE_GROUPS - 1).astype(np.int64)
    return np.unique(group, return_inverse=True)[1]


def _chi_squared_weights(shares: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Weights ``[bins, groups]`` whose squared differences add up to Pearson's chi-squared statistic over the groups."""
    member = np.eye(int(groups.max()) + 1)[groups]
    group_shares = shares @ member
    return member[:, group_shares > 0] / np.sqrt(group_shares[group_shares > 0])
