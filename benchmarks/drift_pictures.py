"""Drift alarms on windows of pictures, clean and changed, for the digits that come with scikit-learn."""

import numpy as np
import polars as pl

WINDOW, POOL = 500, 950  # a window is drawn from the pool; the remaining pictures are the reference
FOLDS, BINS = 3, 32
CLASS, WEIGHT = 3, 2.0  # prior shift: this class is WEIGHT times as frequent
NOISE, LIGHT = 0.04, 1.1


class Digits:
    """The pictures, each scored by a model that was fitted on other folds.

    Attributes:
        pixels: ``[n, 8, 8, 1]`` in 0..1.
        truth: Classes ``[n]``.
    """

    def __init__(self, seed: int) -> None:
        from sklearn.datasets import load_digits
        from sklearn.linear_model import LogisticRegression

        dataset = load_digits()
        self.pixels, self.truth = dataset.images[..., None] / 16, dataset.target
        self.names = [str(label) for label in np.unique(self.truth)]
        self._fold = np.random.default_rng(seed).integers(0, FOLDS, len(self.truth))
        flat = self.pixels.reshape(len(self.pixels), -1)
        training_masks = [self._fold != fold for fold in range(FOLDS)]
        self._models = [LogisticRegression(max_iter=300).fit(flat[mask], self.truth[mask]) for mask in training_masks]

    def compute_columns(self, at: np.ndarray, pixels: np.ndarray | None = None) -> pl.DataFrame:
        """Return the monitored columns of the pictures at the indices ``at``, ``[n]``, or of changed pixels of them."""
        from serving.drift.profiles import image_columns

        images = self.pixels[at] if pixels is None else pixels
        probabilities = np.empty((len(at), len(self.names)))
        for fold, model in enumerate(self._models):
            in_fold = self._fold[at] == fold
            probabilities[in_fold] = model.predict_proba(images[in_fold].reshape(in_fold.sum(), -1))
        return image_columns.columns(images, probabilities, self.names)

    def draw_shifted_window(self, pool: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw a window in which one class is more frequent; no picture is drawn twice, since a copy is no new row."""
        shares = np.where(np.arange(len(self.names)) == CLASS, WEIGHT, 1.0)
        counts = rng.multinomial(WINDOW, shares / shares.sum())
        return np.concatenate([pool[self.truth[pool] == label][:count] for label, count in enumerate(counts)])


def measure_alarms(trials: int, seed: int = 0) -> dict[str, float]:
    """Return the share of windows of 500 pictures that alarm, by change, and the class's share in shifted windows."""
    from serving.drift.alarms.alarm import find_drift
    from serving.drift.profiles import bins
    from serving.drift.profiles.profile import Profile
    from serving.drift.reference.day_variation import ANY_KIND, ReferenceBaseline

    rng, digits = np.random.default_rng(seed), Digits(seed)
    counts = dict.fromkeys(("clean", "subtle noise", "brightness", "prior shift"), 0)
    shares = []
    for _ in range(trials):
        order = rng.permutation(len(digits.truth))
        pool, past = order[:POOL], digits.compute_columns(order[POOL:])
        layout = bins.fit_layout(past, bins=BINS)
        baseline = ReferenceBaseline.of_rows(Profile.of(layout, past))
        clean, shifted = pool[:WINDOW], digits.draw_shifted_window(pool, rng)
        pixels = digits.pixels[clean]
        shares.append((digits.truth[shifted] == CLASS).mean())
        windows = {
            "clean": digits.compute_columns(clean),
            "subtle noise": digits.compute_columns(clean, np.clip(pixels + rng.normal(0, NOISE, pixels.shape), 0, 1)),
            "brightness": digits.compute_columns(clean, np.clip(pixels * LIGHT, 0, 1)),
            "prior shift": digits.compute_columns(shifted),
        }
        for name, window in windows.items():
            results = find_drift(baseline, [(ANY_KIND, Profile.of(layout, window))])
            counts[name] += any(result.moved for result in results)
    return {name: count / trials for name, count in counts.items()} | {"share": float(np.mean(shares))}
