"""Evidence from the Evaluator's results: ROC and precision-recall curves, confusion matrices, cost of errors."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_model_analysis as tfma

from models.data.class_names import list_classes
from tour.evidence.context import Context
from tour.evidence.result_types import Matrix, NotHere, Number, Result, Series, Table

SERVED = "served threshold"
SHOWN = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
MODELS = {"": "candidate", "candidate": "candidate", "baseline": "baseline (blessed before)"}


class Counts(NamedTuple):
    """The confusion matrix at one threshold."""

    threshold: float
    tp: float
    fp: float
    tn: float
    fn: float


def roc(context: Context) -> list[Result]:
    """A28: ROC and precision-recall curves of the candidate and of the baseline, if any; the served threshold is marked."""
    counts_by_model = dict(_plots(context))
    if not counts_by_model:
        return [_one_class_against_another(context)]
    served = nearest(counts_by_model["candidate"], context.point["threshold"])
    (fpr, tpr), (recall, precision) = rates(served)
    areas = tuple(
        (name, area([rates(count)[0] for count in counts]), _pr_area(counts))
        for name, counts in counts_by_model.items()
    )
    return [
        Series("ROC", "false positive rate", "true positive rate", _lines(counts_by_model, 0), {SERVED: (fpr, tpr)}),
        Series(
            "Precision and recall", "recall", "precision", _lines(counts_by_model, 1), {SERVED: (recall, precision)}
        ),
        Table("Areas under the curves", ("model", "ROC-AUC", "PR-AUC"), areas),
        Number("Share of positives in the eval split", (served.tp + served.fn) / sum(served[1:]) * 100, "% of rows"),
    ]


def errors(context: Context) -> list[Result]:
    """A30: the confusion matrix at the served threshold, the errors at other thresholds, and the cost of errors at each."""
    counts_by_model = dict(_plots(context))
    if not counts_by_model:
        return [_one_class_against_another(context)]
    settings = context.settings["training"]
    counts, prices = counts_by_model["candidate"], (settings["miss_cost"], settings["review_cost"])
    served, cheapest = nearest(counts, context.point["threshold"]), min(counts, key=lambda point: cost(point, *prices))
    rows = tuple(
        (point.threshold, int(point.fp), int(point.fn), cost(point, *prices))
        for point in (nearest(counts, threshold) for threshold in SHOWN)
    )
    line = tuple((point.threshold, cost(point, *prices)) for point in counts if 0 <= point.threshold <= 1)
    marks = {
        name: (point.threshold, cost(point, *prices))
        for name, point in ((SERVED, served), ("cheapest on eval", cheapest))
    }
    return [
        Matrix(
            title=f"Confusion matrix at the served threshold of {served.threshold:.4f}, number of rows",
            rows=("negative", "positive"),
            columns=("passed", "stopped"),
            values=tuple((int(a), int(b)) for a, b in ((served.tn, served.fp), (served.fn, served.tp))),
            row_label="truth",
            column_label="decision",
        ),
        Table(
            "Errors at other thresholds, number of rows",
            ("threshold", "type I errors (false alarms)", "type II errors (misses)", "cost per row"),
            rows,
        ),
        Series(
            f"Mean cost of errors: {prices[0]:g} per miss, {prices[1]:g} per review",
            "threshold",
            "cost per row",
            {"cost": line},
            marks,
        ),
    ]


def rates(counts: Counts) -> tuple[tuple[float, float], tuple[float, float]]:
    """Point of the ROC curve, ``(false positive rate, true positive rate)``, and of the PR curve, ``(recall, precision)``."""
    recall = counts.tp / (counts.tp + counts.fn) if counts.tp + counts.fn else 0.0
    precision = counts.tp / (counts.tp + counts.fp) if counts.tp + counts.fp else 1.0
    return (counts.fp / (counts.fp + counts.tn) if counts.fp + counts.tn else 0.0, recall), (recall, precision)


def area(points: Sequence[tuple[float, float]]) -> float:
    """Area under points by the trapezoidal rule; the end points (0, 0) and (1, 1) are added."""
    x, y = np.array(sorted([(0.0, 0.0), *points, (1.0, 1.0)])).T
    return float(np.trapezoid(y, x))


def cost(counts: Counts, miss: float, review: float) -> float:
    """Mean cost of the errors per row."""
    return (counts.fn * miss + counts.fp * review) / (counts.tp + counts.fp + counts.tn + counts.fn)


def nearest(counts: Sequence[Counts], threshold: float) -> Counts:
    """Counts at the threshold that is nearest to the given one."""
    return min(counts, key=lambda point: abs(point.threshold - threshold))


def confusion_matrix(context: Context) -> Matrix | None:
    """Confusion matrix over classes; None if the Evaluator computed none."""
    for _, plot in _overall(context, _models(context)[0]):
        cells = plot.get("multiClassConfusionMatrixAtThresholds")
        if cells:
            return _matrix(cells["matrices"][0]["entries"], list_classes(context.settings["data"]))
    return None


def _matrix(entries: Sequence[dict[str, Any]], classes: Sequence[str]) -> Matrix:
    values = np.zeros((len(classes), len(classes)))
    for entry in entries:
        truth, predicted = int(entry.get("actualClassId", 0)), int(entry.get("predictedClassId", 0))
        if predicted >= 0:
            values[truth, predicted] = entry.get("numWeightedExamples", 0.0)
    cells = tuple(tuple(int(value) for value in row) for row in values)
    return Matrix(
        title="Confusion matrix on the eval split, number of rows",
        rows=tuple(classes),
        columns=tuple(classes),
        values=cells,
        row_label="truth",
        column_label="predicted",
    )


def _plots(context: Context) -> Iterator[tuple[str, list[Counts]]]:
    """Yield each model of the evaluation with its counts by threshold."""
    for model in _models(context):
        for _, plot in _overall(context, model):
            cells = plot.get("confusionMatrixAtThresholds")
            if cells:
                yield MODELS[model or ""], [_counts(cell) for cell in cells["matrices"]]


def _models(context: Context) -> list[str | None]:
    config = json.loads((context.artifact("evaluation") / "eval_config.json").read_text())
    return [spec.get("name") or None for spec in config["evalConfig"]["modelSpecs"]]


def _overall(context: Context, model: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the plots over the whole split with their output name."""
    for key, by_output in tfma.load_eval_result(str(context.artifact("evaluation")), model_name=model).plots:
        for output, by_class in by_output.items() if key == () else []:
            for plot in by_class.values():
                yield output, plot


def _counts(cell: dict[str, Any]) -> Counts:
    names = ("threshold", "truePositives", "falsePositives", "trueNegatives", "falseNegatives")
    # The JSON leaves zeros out, and an infinite threshold is a string.
    return Counts(*(float(cell.get(name, 0.0)) for name in names))


def _lines(counts_by_model: dict[str, list[Counts]], curve: int) -> dict[str, tuple[tuple[float, float], ...]]:
    return {name: tuple(sorted({rates(point)[curve] for point in counts})) for name, counts in counts_by_model.items()}


def _pr_area(counts: Sequence[Counts]) -> float:
    points = sorted({rates(point)[1] for point in counts if point.tp + point.fp})
    x, y = np.array(points).T
    return float(np.trapezoid(y, x))


def _one_class_against_another(context: Context) -> NotHere:
    return NotHere(
        "No decision threshold",
        f"{context.case.name} has several classes. Use --case with a binary use case.",
    )
