"""Entry point of the Tuner: the search for better training settings."""

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

from models.catalog import find_use_case
from models.input import Transform, dataset, list_shards, load
from models.rows import Rows, sample
from models.training.model_selection.refit import fit_rows

ROWS = 20_000  # maximum rows of the train split for a trial
RATES = 3
FAILED_SCORE = -1.0  # below every monitored metric, which are between 0 and 1


def tuner_fn(fn_args: Any) -> TunerFnResult:
    """Entry point of TFX's Tuner: a search of ``tune_trials`` trainings of at most ``tune_steps`` steps each.

    The case's search space is ``custom_config["space"]``: for each setting either a list of choices or
    ``{"low": ..., "high": ...}``, a range sampled by its logarithm.

    Question: A11
    Answer: The common ones are SGD with momentum; RMSprop and Adagrad, which adapt a rate for each weight; Adam, which
        combines both; and AdamW, which decouples weight decay. I start with AdamW and cosine decay and tune on
        validation. They scale steps by past gradients differently, so each has its own best learning rate. The trap is
        comparing them at one rate. Here the search tries every optimizer at the same rates, and the rate matters more.
    Evidence: tour.evidence.training.optimizer_comparison.optimizers
    Proof: tests/models/training/model_selection/test_tuning.py::test_the_rate_matters_more_than_the_optimizer
    """
    config = fn_args.custom_config
    network, settings, space = find_use_case(config["case"]).load("model"), config["settings"], config["space"]
    transform, keep = Transform(fn_args.transform_graph_path), (*network.INPUTS, network.LABEL)
    examples = str(Path(fn_args.train_files[0]).parent.parent)
    streamed = dataset(list_shards(examples, "train"), transform, keep).as_numpy_iterator()
    train = sample(streamed, ROWS, settings["seed"])
    tuner = Search(network, settings, space, fn_args.working_dir)
    return TunerFnResult(tuner, {"train": train, "valid": load(list_shards(examples, "valid"), transform, keep)})


class Search(base_tuner.BaseTuner):
    """KerasTuner's search with our training loop.

    Attributes:
        trials: One dict for each trial, in order: settings, score, seconds, curves and the error, if any.
    """

    def __init__(self, network: Any, settings: Mapping[str, Any], space: Mapping[str, Any], folder: str):
        self.network, self.settings = network, settings
        self.trials: list[dict[str, Any]] = []
        oracle = Oracle(
            planned=plan_trials(space, settings),
            objective=keras_tuner.Objective(network.MONITOR, "max"),
            max_trials=settings["tune_trials"],
            hyperparameters=build_search_space(space, settings),
            tune_new_entries=False,
            allow_new_entries=False,
            seed=settings["seed"],
        )
        oracle.verbose = 0
        super().__init__(oracle, directory=folder, project_name="search", overwrite=True)

    def run_trial(self, trial: Any, train: Rows, valid: Rows) -> dict[str, float]:
        """Train once with the trial's values; the score is the monitored metric of the best epoch.

        A trial that fails or whose loss is NaN or infinite scores ``FAILED_SCORE``, so that the search avoids its settings.
        """
        values, started = dict(trial.hyperparameters.values), time.perf_counter()
        settings = {**self.settings, **values}
        settings["max_steps"] = min(settings["max_steps"], settings["tune_steps"])
        curves, error = [], ""
        try:
            curves = fit_rows(self.network, settings, train, valid).curves
            if not all(math.isfinite(value) for curve in curves for value in curve.values()):
                error = "the loss is no longer a number"
        except Exception as failure:  # any failure: the next trial has other settings
            error = f"{type(failure).__name__}: {failure}"
        score = FAILED_SCORE if error else max(curve[self.network.MONITOR] for curve in curves)
        seconds = time.perf_counter() - started
        self.trials.append(
            {"settings": values, "score": score, "seconds": seconds, "error": error, "curves": _replace_nan(curves)}
        )
        print(self._format_trial(), flush=True)
        return {self.network.MONITOR: score}

    def best(self) -> dict[str, Any]:
        """Return the trial with the best score.

        Raises:
            ValueError: if every trial failed.
        """
        best = max(self.trials, key=lambda trial: trial["score"])
        if best["error"]:
            raise ValueError(
                f"None of the {len(self.trials)} trials could be trained; the last error: {best['error']}."
            )
        return best

    def save_report(self, folder: Path) -> None:
        """Write ``curves.json``: every trial with its curves, and the best settings."""
        report = {"metric": self.network.MONITOR, "trials": self.trials, "best": self.best()["settings"]}
        (folder / "curves.json").write_text(json.dumps(report, indent=1))

    def _format_trial(self) -> str:
        last = self.trials[-1]
        tried = " ".join(f"{name}={_format_value(value)}" for name, value in last["settings"].items())
        outcome = last["error"] or f"{self.network.MONITOR}={last['score']:.4f}"
        return f"trial {len(self.trials)}/{self.settings['tune_trials']} {tried} {outcome} ({last['seconds']:.1f} s)"


class Oracle(keras_tuner.oracles.BayesianOptimizationOracle):
    """Bayesian optimisation (Snoek et al. 2012) that starts with the planned trials."""

    def __init__(self, planned: list[dict[str, Any]], **options: Any):
        super().__init__(num_initial_points=len(planned), **options)
        self._planned: Iterator[dict[str, Any]] = iter(planned)

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return the values of the next trial."""
        values = next(self._planned, None)
        return {"status": "RUNNING", "values": values} if values else super().populate_space(trial_id)


def plan_trials(space: Mapping[str, Any], settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Plan trials for a fair comparison: every optimizer at the same few rates, the middle rate first."""
    optimizers = space.get("optimizer", [settings["optimizer"]])
    rates = [settings["learning_rate"]]
    if "learning_rate" in space:
        grid = np.geomspace(*_find_bounds("learning_rate", space, settings), RATES)
        rates = [float(grid[index]) for index in sorted(range(RATES), key=lambda index: abs(index - RATES // 2))]
    defaults = {name: settings[name] for name in space}
    trials = [{"learning_rate": rate, "optimizer": name} for rate, name in product(rates, optimizers)]
    return [defaults | {name: value for name, value in trial.items() if name in space} for trial in trials]


def build_search_space(space: Mapping[str, Any], settings: Mapping[str, Any]) -> keras_tuner.HyperParameters:
    """Convert the search space to KerasTuner's, extended where needed to contain the current settings."""
    parameters = keras_tuner.HyperParameters()
    for name, kind in space.items():
        if isinstance(kind, Mapping):
            low, high = _find_bounds(name, space, settings)
            parameters.Float(name, low, high, sampling="log", default=settings[name])
        else:
            choices = sorted({*kind, settings[name]})
            parameters.Choice(
                name, choices, default=settings[name], ordered=False if isinstance(choices[0], str) else None
            )
    return parameters


def _find_bounds(name: str, space: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[float, float]:
    return min(space[name]["low"], settings[name]), max(space[name]["high"], settings[name])


def _replace_nan(curves: list[dict[str, float]]) -> list[dict[str, float | None]]:
    """Replace NaN and infinity, which JSON cannot represent, by None."""
    return [{name: value if math.isfinite(value) else None for name, value in curve.items()} for curve in curves]


def _format_value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
