"""Windows of pictures, clean and changed, against a reference of others: the digits that come with scikit-learn."""

import numpy as np
import polars as pl

WINDOW, POOL = 500, 950  # the window is drawn from the pool; what is left of the pictures is the reference
FOLDS, BINS = 3, 32
CLASS, WEIGHT = 3, 2.0  # of the prior shift: one class of ten is so many times as frequent
NOISE, LIGHT = 0.04, 1.1


class Digits:
    """The pictures, each scored by a model that was fitted on others.

    Attributes:
        pixels: ``[n, 8, 8, 1]`` in 0..1.
        truth: Classes ``[n]``.
    """

    def __init__(self, seed: int) -> None:
        from sklearn.datasets import load_digits
        from sklearn.linear_model import LogisticRegression

        held = load_digits()
        self.pixels, self.truth = held.images[..., None] / 16, held.target
        self.names = [str(one) for one in np.unique(self.truth)]
        self._fold = np.random.default_rng(seed).integers(0, FOLDS, len(self.truth))
        flat = self.pixels.reshape(len(self.pixels), -1)
        others = [self._fold != fold for fold in range(FOLDS)]
        self._models = [LogisticRegression(max_iter=300).fit(flat[one], self.truth[one]) for one in others]

    def columns(self, at: np.ndarray, pixels: np.ndarray | None = None) -> pl.DataFrame:
        """What is watched of the pictures ``at``, ``[n]``, whose pixels may have been changed."""
        from serving.drift.profiles import image_columns

        shown = self.pixels[at] if pixels is None else pixels
        found = np.empty((len(at), len(self.names)))
        for fold, model in enumerate(self._models):
            mine = self._fold[at] == fold
            found[mine] = model.predict_proba(shown[mine].reshape(mine.sum(), -1))
        return image_columns.columns(shown, found, self.names)

    def shifted(self, pool: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A window in which a class is more frequent, each picture at most once: drawn twice it would be no new row."""
        shares = np.where(np.arange(len(self.names)) == CLASS, WEIGHT, 1.0)
        wanted = rng.multinomial(WINDOW, shares / shares.sum())
        return np.concatenate([pool[self.truth[pool] == one][:count] for one, count in enumerate(wanted)])


def alarms(trials: int, seed: int = 0) -> dict[str, float]:
    """Share of windows of 500 pictures that alarm, clean and changed, and the share that the prior shift came to."""
    from serving.drift.alarms.alarm import judge
    from serving.drift.profiles import bins
    from serving.drift.profiles.profile import Profile
    from serving.drift.reference.day_variation import ANY, Baseline

    rng, digits = np.random.default_rng(seed), Digits(seed)
    counts = dict.fromkeys(("clean", "subtle noise", "brightness", "prior shift"), 0)
    reached = []
    for _ in range(trials):
        order = rng.permutation(len(digits.truth))
        pool, past = order[:POOL], digits.columns(order[POOL:])
        counted = bins.fit(past, bins=BINS)
        baseline = Baseline.of_rows(Profile.of(counted, past))
        usual, shifted = pool[:WINDOW], digits.shifted(pool, rng)
        pixels = digits.pixels[usual]
        reached.append((digits.truth[shifted] == CLASS).mean())
        windows = {
            "clean": digits.columns(usual),
            "subtle noise": digits.columns(usual, np.clip(pixels + rng.normal(0, NOISE, pixels.shape), 0, 1)),
            "brightness": digits.columns(usual, np.clip(pixels * LIGHT, 0, 1)),
            "prior shift": digits.columns(shifted),
        }
        for name, window in windows.items():
            found = judge(baseline, [(ANY, Profile.of(counted, window))])
            counts[name] += any(one.moved for one in found)
    return {name: count / trials for name, count in counts.items()} | {"share": float(np.mean(reached))}
