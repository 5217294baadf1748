"""Gate that stops a run whose model overfits."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfx.dsl.component.experimental.annotations import InputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import ModelRun

from models.errors import GateError

REMEDY = (
    "get more data, raise dropout or l2, turn augmentation on, make the network smaller, stop earlier (patience), "
    "or raise max_gap if the metric on eval is good enough"
)


@component
def FitGate(model_run: InputArtifact[ModelRun], config: Parameter[str]) -> None:
    """Stop the run if the metric on train exceeds that on valid by more than the overfitting gap allowed.

    Raises:
        GateError: naming the metric, both values, the limit and the remedies.

    Question: B26
    Answer: The usual mistake is watching the training metric alone, which keeps rising. Measure the saved weights in
        inference mode on train and on validation, and limit the gap. The running epoch loss is a poor guide: it
        averages over changing weights and has dropout on. No gap at all is suspicious too; look for leakage. Here both
        curves are recorded, and a gate stops the run before anything is pushed.
    Evidence: tour.evidence.training.overfitting.overfitting_gate
    Proof: tests/components/training/test_fit_gate.py::test_an_overfitted_run_is_refused_and_nothing_is_pushed
    """
    fit = json.loads(Path(model_run.uri, "training.json").read_text())["fit"]
    reason = find_overfitting(fit, json.loads(config)["settings"]["max_gap"])
    if reason:
        raise GateError("FitGate", reason)


def find_overfitting(fit: Mapping[str, Any], limit: float) -> str:
    """Return why the model may not be pushed, in one sentence; empty if it may, or if ``limit`` is 0.

    Args:
        fit: The record ``fit`` of training.json: ``metric``, the name of the monitored metric (higher is better), and
            its value and the number of rows on ``train`` and ``valid``.
        limit: Largest difference that is allowed.
    """
    name = fit["metric"]
    train, valid = fit["train"][name], fit["valid"][name]
    # NaN is never within the limit.
    if limit == 0 or train - valid <= limit:
        return ""
    return (
        f"{name} is {train:.4f} on {fit['train']['rows']} examples of train and {valid:.4f} on {fit['valid']['rows']} of "
        f"valid: a gap of {train - valid:.4f}, and at most {limit:g} is allowed (max_gap). Remedies: {REMEDY}."
    )
