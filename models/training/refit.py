"""Training on rows in memory: what tuning, cross-validation and ablation do many times over."""

from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from itertools import count
from typing import Any

from models.input import kept
from models.rows import Rows, specs
from models.training.loop import Fit, fit
from models.training.seeds import seed_everything


class LastEpoch:
    """A network module that monitors the count of epochs: the last one is kept, as without early stopping."""

    MONITOR = "epochs_so_far"

    def __init__(self, network: Any):
        self._network, self._epochs = network, count(1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def quality(self, truth: Any, logits: Any) -> dict[str, float]:
        """The network's metrics and the count."""
        return {**self._network.quality(truth, logits), self.MONITOR: float(next(self._epochs))}


def fit_rows(network: Any, settings: Mapping[str, Any], train: Rows, valid: Rows, pretrained: str = "") -> Fit:
    """The Trainer's loop on arrays, ``[rows, ...]`` a feature, seeded anew, so that calls can be compared."""
    seed_everything(settings)
    rows, feed = kept(train, settings["batch_size"], settings["seed"])
    # Many short trainings in a row: none has a history to look at.
    plain = {**settings, "tensorboard": False}
    with redirect_stdout(StringIO()):  # a line an epoch would hide the line that the caller has for the whole
        return fit(network, plain, specs(train), feed, rows, valid, None, pretrained)
