"""The search for better settings: what the Tuner runs."""

import json
import math
import time
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.engine import base_tuner
from tfx.components.tuner.component import TunerFnResult

from models.catalog import find
from models.input import Transform, dataset, files, load
from models.rows import Rows, sample
from models.training.refit import fit_rows

ROWS = 20_000  # of the train split that a trial learns from
RATES = 3
WORST = -1.0  # below every metric that is monitored, which lie between 0 and 1


def tuner_fn(fn_args: Any) -> TunerFnResult:
    """Entry point of TFX's Tuner: a search of ``tune_trials`` trainings of at most ``tune_steps`` steps each.

    The space is the case's, in ``custom_config["space"]``: by the name of a setting either a list of choices or
    ``{"low": ..., "high": ...}``, a range that is searched by its logarithm.

    Question: A11
    Answer: SGD with momentum, RMSprop and Adagrad (a rate per weight), Adam (both ideas), AdamW (with decoupled weight
        decay). They differ in how they scale a step by past gradients, so each has its own best learning rate: compare
        them only after tuning it. On this model the rate decides more than the optimizer does. Start with AdamW,
        warm-up or cosine decay, and let a search over the validation split choose.
    Evidence: tour.evidence.training.optimizer_comparison.optimizers
    Proof: tests/models/training/test_tuning.py::test_the_rate_matters_more_than_the_optimizer
    """
    config = fn_args.custom_config
    network, settings, space = find(config["case"]).load("model"), config["settings"], config["space"]
    transform, keep = Transform(fn_args.transform_graph_path), (*network.INPUTS, network.LABEL)
    examples = str(Path(fn_args.train_files[0]).parent.parent)
    streamed = dataset(files(examples, "train"), transform, keep).as_numpy_iterator()
    train = sample(streamed, ROWS, settings["seed"])
    tuner = Search(network, settings, space, fn_args.working_dir)
    return TunerFnResult(tuner, {"train": train, "valid": load(files(examples, "valid"), transform, keep)})


class Search(base_tuner.BaseTuner):
    """KerasTuner's search around our training loop.

    Attributes:
        trials: One dict a trial in order: settings that were tried, score, seconds, curves and the error, if any.
    """

    def __init__(self, network: Any, settings: Mapping[str, Any], space: Mapping[str, Any], folder: str):
        self.network, self.settings = network, settings
        self.trials: list[dict[str, Any]] = []
        oracle = Oracle(
            planned=planned(space, settings),
            objective=keras_tuner.Objective(network.MONITOR, "max"),
            max_trials=settings["tune_trials"],
            hyperparameters=hyperparameters(space, settings),
            tune_new_entries=False,
            allow_new_entries=False,
            seed=settings["seed"],
        )
        oracle.verbose = 0
        super().__init__(oracle, directory=folder, project_name="search", overwrite=True)

    def run_trial(self, trial: Any, train: Rows, valid: Rows) -> dict[str, float]:
        """Trains once with the trial's values; the score is the monitored metric of the epoch that would be kept.

        A trial that breaks or whose loss is no longer a number scores ``WORST``: its settings do not work, which is what
        the search wants to know.
        """
        values, started = dict(trial.hyperparameters.values), time.perf_counter()
        settings = {**self.settings, **values}
        settings["max_steps"] = min(settings["max_steps"], settings["tune_steps"])
        curves, error = [], ""
        try:
            curves = fit_rows(self.network, settings, train, valid).curves
            if not all(math.isfinite(value) for curve in curves for value in curve.values()):
                error = "the loss is no longer a number"
        except Exception as broken:  # whatever it is, the next trial has other settings
            error = f"{type(broken).__name__}: {broken}"
        score = WORST if error else max(curve[self.network.MONITOR] for curve in curves)
        seconds = time.perf_counter() - started
        self.trials.append(
            {"settings": values, "score": score, "seconds": seconds, "error": error, "curves": _plain(curves)}
        )
        print(self._line(), flush=True)
        return {self.network.MONITOR: score}

    def best(self) -> dict[str, Any]:
        """The trial with the best score.

        Raises:
            ValueError: if every trial failed.
        """
        found = max(self.trials, key=lambda one: one["score"])
        if found["error"]:
            raise ValueError(
                f"None of the {len(self.trials)} trials could be trained; the last said: {found['error']}."
            )
        return found

    def save_report(self, folder: Path) -> None:
        """Writes ``curves.json``: every trial with its curves, and the best."""
        report = {"metric": self.network.MONITOR, "trials": self.trials, "best": self.best()["settings"]}
        (folder / "curves.json").write_text(json.dumps(report, indent=1))

    def _line(self) -> str:
        last = self.trials[-1]
        tried = " ".join(f"{name}={_short(value)}" for name, value in last["settings"].items())
        outcome = last["error"] or f"{self.network.MONITOR}={last['score']:.4f}"
        return f"trial {len(self.trials)}/{self.settings['tune_trials']} {tried} {outcome} ({last['seconds']:.1f} s)"


class Oracle(keras_tuner.oracles.BayesianOptimizationOracle):
    """First the trials that are planned, then Bayesian optimisation (Snoek et al. 2012) from what they showed."""

    def __init__(self, planned: list[dict[str, Any]], **words: Any):
        super().__init__(num_initial_points=len(planned), **words)
        self._planned: Iterator[dict[str, Any]] = iter(planned)

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """The values of the next trial."""
        values = next(self._planned, None)
        return {"status": "RUNNING", "values": values} if values else super().populate_space(trial_id)


def planned(space: Mapping[str, Any], settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Trials that compare fairly: every optimizer at the same few rates, from the middle one on, all else as set."""
    optimizers = space.get("optimizer", [settings["optimizer"]])
    rates = [settings["learning_rate"]]
    if "learning_rate" in space:
        spread = np.geomspace(*_bounds("learning_rate", space, settings), RATES)
        rates = [float(spread[index]) for index in sorted(range(RATES), key=lambda index: abs(index - RATES // 2))]
    usual = {name: settings[name] for name in space}
    trials = [{"learning_rate": rate, "optimizer": name} for rate, name in product(rates, optimizers)]
    return [usual | {name: value for name, value in one.items() if name in space} for one in trials]


def hyperparameters(space: Mapping[str, Any], settings: Mapping[str, Any]) -> keras_tuner.HyperParameters:
    """The space as KerasTuner has it; what is set now belongs to it, wherever it lies."""
    found = keras_tuner.HyperParameters()
    for name, kind in space.items():
        if isinstance(kind, Mapping):
            low, high = _bounds(name, space, settings)
            found.Float(name, low, high, sampling="log", default=settings[name])
        else:
            choices = sorted({*kind, settings[name]})
            found.Choice(name, choices, default=settings[name], ordered=False if isinstance(choices[0], str) else None)
    return found


def _bounds(name: str, space: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[float, float]:
    return min(space[name]["low"], settings[name]), max(space[name]["high"], settings[name])


def _plain(curves: list[dict[str, float]]) -> list[dict[str, float | None]]:
    """JSON has no word for what is not a number."""
    return [{name: value if math.isfinite(value) else None for name, value in one.items()} for one in curves]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
