"""What a column is seen by: a few components, linear in its shares, so that windows of any number of days can be compared."""

from dataclasses import dataclass

import numpy as np
from scipy import special

from serving.drift.profiles.bins import Column, Number

RARE = 0.005  # categories below this share count together
COARSE = 16  # groups of bins that a shape is judged by
BOUND = 1.5  # normal scores beyond it move a location no further (Huber): a run of odd values is no shift of all
# Columns that say one thing are a family: pixels, softmax outputs, and a score with the decision that follows from it.
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
    """One way of looking at a column: ``shares @ weights`` is what is compared.

    Attributes:
        column, name: Of which column; ``location``, ``spread``, ``shape``, or ``share of`` a value.
        weights: ``[bins, q]``; q is 1 but for a shape.
    """

    column: str
    name: str
    weights: np.ndarray

    @property
    def family(self) -> str:
        """The column, or what several columns say together."""
        return FAMILIES.get(self.column, self.column)

    @property
    def kind(self) -> str:
        """``location``, ``spread``, ``shape`` or ``share``."""
        return self.name.split()[0]


def of(column: Column, bins: np.ndarray) -> list[Component]:
    """What a column is seen by, from the reference's counts ``[bins]``; nothing where it has one value."""
    shares = bins / max(bins.sum(), 1)
    if (shares > 0).sum() < 2:
        return []
    if isinstance(column, Number):
        return [*_scores(column.name, shares), Component(column.name, "shape", _grouped(shares, _runs(shares)))]
    kept, groups = np.unique(np.where(shares >= RARE, np.arange(len(shares)), len(shares) - 1), return_inverse=True)
    whole = _grouped(shares, groups)
    values = [
        (*column.values, "others")[at] for at, held in zip(kept, np.bincount(groups, shares), strict=True) if held
    ]
    alone = [Component(column.name, f"share of {name}", whole[:, [at]]) for at, name in enumerate(values)]
    # Of two values one share says it all. Where one of many moves, its own share shows it sooner than all together.
    return alone[:1] if len(alone) < 3 else [Component(column.name, "shape", whole), *alone]


def _scores(name: str, shares: np.ndarray) -> list[Component]:
    """Location and spread: normal scores of the reference's ranks, bounded, and their squares, with mean 0 and deviation 1.

    Ranks, so that one outlier moves nothing. Bins that the reference left empty lie at the ends and count as its outermost
    ones: a small reference does not hold what rows of the same kind reach now and then.
    """
    middle, held = np.cumsum(shares) - shares / 2, shares > 0
    scores = special.ndtri(np.clip(middle, 1e-4, 1 - 1e-4))
    scores = _standard(np.clip(scores, scores[held].min(), scores[held].max()), shares)
    spread = scores**2
    spread = _standard(spread - scores * (shares @ (scores * spread)), shares)
    location = _standard(np.clip(scores, -BOUND, BOUND), shares)
    return [
        Component(name, what, one[:, None]) for what, one in (("location", location), ("spread", spread)) if one.any()
    ]


def _standard(values: np.ndarray, shares: np.ndarray) -> np.ndarray:
    centred = values - shares @ values
    deviation = np.sqrt(shares @ centred**2)
    return centred / deviation if deviation > 1e-9 else np.zeros(len(values))


def _runs(shares: np.ndarray) -> np.ndarray:
    """Neighbouring bins joined to about ``COARSE`` groups of equal shares, ``[bins]``."""
    group = np.minimum((np.cumsum(shares) - shares / 2) * COARSE, COARSE - 1).astype(np.int64)
    return np.unique(group, return_inverse=True)[1]


def _grouped(shares: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Weights ``[bins, groups]`` whose squared differences add up to Pearson's statistic over the groups."""
    member = np.eye(int(groups.max()) + 1)[groups]
    held = shares @ member
    return member[:, held > 0] / np.sqrt(held[held > 0])
