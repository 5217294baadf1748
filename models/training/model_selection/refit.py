"""Train on rows in memory, for tuning, cross-validation and ablations, which train many times."""

from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from itertools import count
from typing import Any

from models.input import feed_from_memory
from models.rows import Rows, specs
from models.training.loop import TrainingResult, TrainingSplits, TrainingStart, fit
from models.training.seeds import seed_everything


class LastEpoch:
    """A network module that monitors the number of epochs, so that the last epoch counts as the best."""

    MONITOR = "epochs_so_far"

    def __init__(self, network: Any):
        self._network, self._epochs = network, count(1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def quality(self, truth: Any, logits: Any) -> dict[str, float]:
        """The network's metrics and the number of epochs so far."""
        return {**self._network.quality(truth, logits), self.MONITOR: float(next(self._epochs))}


def fit_rows(
    network: Any, settings: Mapping[str, Any], train: Rows, valid: Rows, pretrained: str = ""
) -> TrainingResult:
    """Run the Trainer's loop on arrays, ``[rows, ...]`` for each feature; each call is seeded, so that calls compare."""
    seed_everything(settings)
    rows, feed = feed_from_memory(train, settings["batch_size"], settings["seed"])
    splits = TrainingSplits(specs(train), rows, feed, valid)
    # Many short trainings in a row: nobody reads their event files.
    quiet_settings = {**settings, "tensorboard": False}
    with redirect_stdout(StringIO()):  # progress by epoch would hide the caller's one line for each training
        return fit(network, quiet_settings, splits, TrainingStart(pretrained=pretrained))
