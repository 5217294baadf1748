"""Stops a run whose model knows its training examples and little else."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfx.dsl.component.experimental.annotations import InputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import ModelRun

from models.errors import Refused

REMEDY = (
    "get more data, raise dropout or l2, turn augmentation on, make the network smaller, stop earlier (patience), "
    "or raise max_gap if the metric on eval is what you need"
)


@component
def FitGate(model_run: InputArtifact[ModelRun], config: Parameter[str]) -> None:
    """Lets the run pass if the kept weights do about as well on valid as on train.

    Raises:
        Refused: naming the metric, both values, the limit and what to do.

    Question: B26
    Answer: Looking at the training metric alone, which only rises. Measure the kept weights in inference mode on train
        and on valid and look at the gap: the loss of an epoch is taken with dropout on and while weights change, so it
        flatters or slanders. Write both curves down, set a limit for the gap, and let a gate stop the run before
        anything is pushed. A gap of nothing at all is suspicious too: look for leakage.
    Evidence: tour.evidence.training.overfitting.caught
    Proof: tests/components/training/test_fit_gate.py::test_an_overfitted_run_is_refused_and_nothing_is_pushed
    """
    fit = json.loads(Path(model_run.uri, "training.json").read_text())["fit"]
    reason = overfitted(fit, json.loads(config)["settings"]["max_gap"])
    if reason:
        raise Refused("FitGate", reason)


def overfitted(fit: Mapping[str, Any], limit: float) -> str:
    """Why the model may not be pushed, in one sentence; empty if it may, or if ``limit`` is 0.

    Args:
        fit: ``metric``, the name of what is monitored (higher is better), and its value and the rows on ``train`` and
            ``valid``, as training.json has them.
        limit: The largest difference.
    """
    name = fit["metric"]
    train, valid = fit["train"][name], fit["valid"][name]
    # What is not a number is within no limit.
    if limit == 0 or train - valid <= limit:
        return ""
    return (
        f"{name} is {train:.4f} on {fit['train']['rows']} examples of train and {valid:.4f} on {fit['valid']['rows']} of "
        f"valid, a gap of {train - valid:.4f}, and at most {limit:g} is allowed (max_gap): {REMEDY}."
    )
