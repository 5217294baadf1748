"""The Evaluator's results: curves over all thresholds, and the price of each error."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_model_analysis as tfma

from tour.evidence.context import Context
from tour.evidence.result_types import Matrix, NotHere, Number, Result, Series, Table

SERVED = "served threshold"
SHOWN = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
MODELS = {"": "candidate", "candidate": "candidate", "baseline": "blessed before"}


class Counts(NamedTuple):
    """The confusion matrix at one threshold."""

    threshold: float
    tp: float
    fp: float
    tn: float
    fn: float


def roc(context: Context) -> list[Result]:
    """A28: ROC and PR of the candidate, and of the model blessed before where there is one, the served point marked."""
    found = dict(_plots(context))
    if not found:
        return [_one_class_against_another(context)]
    served = nearest(found["candidate"], context.point["threshold"])
    (fpr, tpr), (recall, precision) = rates(served)
    areas = tuple((name, area([rates(c)[0] for c in counts]), _pr_area(counts)) for name, counts in found.items())
    return [
        Series("ROC", "false positive rate", "true positive rate", _lines(found, 0), {SERVED: (fpr, tpr)}),
        Series("Precision and recall", "recall", "precision", _lines(found, 1), {SERVED: (recall, precision)}),
        Table("Areas under the curves", ("model", "ROC", "PR"), areas),
        Number("Positives in the eval split", (served.tp + served.fn) / sum(served[1:]) * 100, "%"),
    ]


def errors(context: Context) -> list[Result]:
    """A30: the confusion matrix at the served threshold, the matrix at others, and what errors cost at each."""
    found = dict(_plots(context))
    if not found:
        return [_one_class_against_another(context)]
    told = context.settings["training"]
    counts, prices = found["candidate"], (told["miss_cost"], told["review_cost"])
    served, cheapest = nearest(counts, context.point["threshold"]), min(counts, key=lambda one: cost(one, *prices))
    rows = tuple(
        (one.threshold, int(one.fp), int(one.fn), cost(one, *prices)) for one in (nearest(counts, t) for t in SHOWN)
    )
    line = tuple((one.threshold, cost(one, *prices)) for one in counts if 0 <= one.threshold <= 1)
    marks = {
        name: (one.threshold, cost(one, *prices)) for name, one in ((SERVED, served), ("cheapest on eval", cheapest))
    }
    return [
        Matrix(
            f"At the served threshold {served.threshold:.4f}",
            ("negative", "positive"),
            ("passed", "stopped"),
            tuple((int(a), int(b)) for a, b in ((served.tn, served.fp), (served.fn, served.tp))),
            "truth",
            "decision",
        ),
        Table("At others", ("threshold", "type I (false alarm)", "type II (miss)", "cost a row"), rows),
        Series(
            f"Cost at {prices[0]:g} a miss and {prices[1]:g} a review", "threshold", "cost a row", {"cost": line}, marks
        ),
    ]


def rates(one: Counts) -> tuple[tuple[float, float], tuple[float, float]]:
    """A point of the ROC, ``(false positive rate, true positive rate)``, and one of the PR, ``(recall, precision)``."""
    recall = one.tp / (one.tp + one.fn) if one.tp + one.fn else 0.0
    precision = one.tp / (one.tp + one.fp) if one.tp + one.fp else 1.0
    return (one.fp / (one.fp + one.tn) if one.fp + one.tn else 0.0, recall), (recall, precision)


def area(points: Sequence[tuple[float, float]]) -> float:
    """The area under points by the trapezoidal rule; the ends (0, 0) and (1, 1) are added."""
    x, y = np.array(sorted([(0.0, 0.0), *points, (1.0, 1.0)])).T
    return float(np.trapezoid(y, x))


def cost(one: Counts, miss: float, review: float) -> float:
    """Mean price of the errors, a row."""
    return (one.fn * miss + one.fp * review) / (one.tp + one.fp + one.tn + one.fn)


def nearest(counts: Sequence[Counts], threshold: float) -> Counts:
    """The counts at the threshold nearest to that asked for."""
    return min(counts, key=lambda one: abs(one.threshold - threshold))


def matrix(context: Context) -> Matrix | None:
    """The matrix of classes, if the Evaluator drew one."""
    for _, plot in _overall(context, _models(context)[0]):
        cells = plot.get("multiClassConfusionMatrixAtThresholds")
        if cells:
            return _matrix(cells["matrices"][0]["entries"], context.settings["data"]["classes"].split(","))
    return None


def _matrix(entries: Sequence[dict[str, Any]], classes: Sequence[str]) -> Matrix:
    values = np.zeros((len(classes), len(classes)))
    for entry in entries:
        truth, predicted = int(entry.get("actualClassId", 0)), int(entry.get("predictedClassId", 0))
        if predicted >= 0:
            values[truth, predicted] = entry.get("numWeightedExamples", 0.0)
    shown = tuple(tuple(int(value) for value in row) for row in values)
    return Matrix("Confusion on the eval split", tuple(classes), tuple(classes), shown, "truth", "predicted")


def _plots(context: Context) -> Iterator[tuple[str, list[Counts]]]:
    """Counts by threshold of every model that the evaluation compared."""
    for model in _models(context):
        for _, plot in _overall(context, model):
            cells = plot.get("confusionMatrixAtThresholds")
            if cells:
                yield MODELS[model or ""], [_counts(cell) for cell in cells["matrices"]]


def _models(context: Context) -> list[str | None]:
    config = json.loads((context.artifact("evaluation") / "eval_config.json").read_text())
    return [spec.get("name") or None for spec in config["evalConfig"]["modelSpecs"]]


def _overall(context: Context, model: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Plots over the whole split, by output name."""
    for key, by_output in tfma.load_eval_result(str(context.artifact("evaluation")), model_name=model).plots:
        for output, by_class in by_output.items() if key == () else []:
            for plot in by_class.values():
                yield output, plot


def _counts(cell: dict[str, Any]) -> Counts:
    names = ("threshold", "truePositives", "falsePositives", "trueNegatives", "falseNegatives")
    # What is zero is left out of the JSON, and infinity is a word.
    return Counts(*(float(cell.get(name, 0.0)) for name in names))


def _lines(found: dict[str, list[Counts]], which: int) -> dict[str, tuple[tuple[float, float], ...]]:
    return {name: tuple(sorted({rates(one)[which] for one in counts})) for name, counts in found.items()}


def _pr_area(counts: Sequence[Counts]) -> float:
    points = sorted({rates(one)[1] for one in counts if one.tp + one.fp})
    x, y = np.array(points).T
    return float(np.trapezoid(y, x))


def _one_class_against_another(context: Context) -> NotHere:
    return NotHere(
        "No threshold", f"{context.case.name} chooses among classes; ask with the --case of one that decides yes or no."
    )
