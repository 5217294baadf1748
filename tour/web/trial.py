"""Data of the Try page: rows of the newest span for its form, and one logged request answered by LiteRT as well."""

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from models.catalog import CASES, find_use_case
from models.data.class_names import list_classes
from pipeline.home import Home
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from serving import rollout
from serving.edge.interpreter import Interpreter
from serving.gateway.log.tf_example import decode
from tour import lineage, logbook, trace
from tour.web.worker_process import WorkerProcess

MAX_READ, MAX_OFFERED = 4000, 12  # rows of the span that are read; rows of each kind that the form offers
EXTRA, ONE_ROW = "assets.extra", "one_row.tflite"
MAX_CHOICES = 24  # a field with more values is a text field
TIMED_CALLS = 50
TIMEOUT_SECONDS = 240.0


@dataclass(frozen=True)
class FormRows:
    """Rows and choices of the request form.

    Attributes:
        typical: Request bodies with the most frequent label.
        unusual: Request bodies with the rarest label, those farthest from the typical ones first.
        samples: One request body per label if there are three labels or more, else None.
        key: The field with the client's id of the row.
        choices: Values of the fields that have few.
        span: Number of the span that the rows are from.
        problem: Why there are no rows; empty if there are.
    """

    typical: tuple[dict[str, Any], ...] = ()
    unusual: tuple[dict[str, Any], ...] = ()
    samples: Mapping[str, dict[str, Any]] | None = None
    key: str = ""
    choices: Mapping[str, tuple[str, ...]] | None = None
    span: int = 0
    problem: str = ""


def load_form_rows(home: Path, case: str) -> FormRows:
    """Load rows of the newest span that the last pushed run was trained on."""
    runs = Home(home).pushed_runs(case)
    if not runs:
        return FormRows(problem=f"No model of {case} has been pushed; `showcase run {case} --home {home}` trains one.")
    facts, use_case = runs[-1].facts, find_use_case(case)
    span = int(facts["spans"].rpartition(":")[2])
    try:
        rows = use_case.load("traffic").requests(
            facts["source"], facts["source"], home / "data", (span, span), (), json.loads(facts["settings"])["data"]
        )
        return _select_rows(list(islice(rows, MAX_READ)), use_case.load("online_requests").online(), span)
    except (OSError, ValueError, LookupError) as error:
        return FormRows(problem=f"The newest span cannot be read: {error}")


def _select_rows(rows: list[tuple[dict[str, Any], dict[str, Any] | None]], online: Any, span: int) -> FormRows:
    by_label: dict[str, list[dict[str, Any]]] = {}
    for body, answer in rows:
        by_label.setdefault(str(answer["label"]) if answer else "", []).append(body)
    ranked = sorted(by_label, key=lambda label: len(by_label[label]))
    if not ranked:
        return FormRows(problem="The newest span has no rows.")
    first = rows[0][0]
    values = {name: sorted({body[name] for body, _ in rows if isinstance(body[name], str)}) for name in first}
    typical, key = by_label[ranked[-1]], online.key({name: name for name in first})
    limit = min(MAX_CHOICES, len(rows) // 2)  # a field whose values hardly repeat is a text field
    return FormRows(
        typical=tuple(typical[:: max(1, len(typical) // MAX_OFFERED)][:MAX_OFFERED]),
        unusual=tuple(_rank_by_distance(by_label[ranked[0]], typical)[:MAX_OFFERED]) if len(ranked) > 1 else (),
        samples={label: by_label[label][0] for label in sorted(by_label)} if len(ranked) > 2 else None,
        key=key,
        choices={name: tuple(texts) for name, texts in values.items() if 1 < len(texts) <= limit and name != key},
        span=span,
    )


def _rank_by_distance(rows: list[dict[str, Any]], typical: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rank rows by distance from the medians of typical rows, in median absolute deviations; farthest first."""
    names = [name for name, value in typical[0].items() if isinstance(value, int | float)]
    table = np.array([[row[name] or 0.0 for name in names] for row in typical], float)
    medians = np.median(table, axis=0)
    deviations = np.median(np.abs(table - medians), axis=0) + 1e-9
    return sorted(
        rows, key=lambda row: -np.sum(np.abs(np.array([row[name] or 0.0 for name in names]) - medians) / deviations)
    )


@dataclass(frozen=True)
class PredictionComparison:
    """The answers of the server and of LiteRT to one logged request.

    Attributes:
        version: Number of the model version.
        inputs: Input tensors of the network, flat.
        server: Outputs of the server as logged, flat.
        python: Outputs of LiteRT in Python, flat.
        microseconds: Median time of one call of LiteRT in Python, over ``TIMED_CALLS`` calls.
        tolerance: Largest absolute difference that the run's gate allows.
        names: Names of the classes; empty if the case has none.
    """

    version: int
    inputs: Mapping[str, list[float]]
    server: Mapping[str, list[float]]
    python: Mapping[str, list[float]]
    microseconds: float
    tolerance: float
    names: tuple[str, ...]


class LiteComparer:
    """Answer logged requests with LiteRT; one worker process applies the transform graphs and caches them.

    Attributes:
        worker: The worker process, see :mod:`tour.web.logged_tensors`.
    """

    def __init__(self, home: Path) -> None:
        self.worker = WorkerProcess("tour.web.logged_tensors")
        self._home, self._lock = home, asyncio.Lock()

    async def compare(self, case: str, identity: str) -> PredictionComparison:
        """Answer a logged request with LiteRT in Python and compare with the logged outputs.

        Raises:
            LookupError: if the log, the model or the transform graph is missing; the message names it.
            ValueError: if the transform graph cannot be applied.
            TimeoutError: if the worker process takes longer than ``TIMEOUT_SECONDS``.
        """
        logged, graph, model, facts, tolerance = await asyncio.to_thread(self._find_files, case, identity)
        features = await asyncio.wait_for(self._compute_tensors(graph, logged.record), TIMEOUT_SECONDS)
        return await asyncio.to_thread(_compare_outputs, logged, features, model, facts, tolerance)

    async def warm_up(self) -> None:
        """Start the worker process, so that TensorFlow is loaded before the first request."""
        async with self._lock:
            await self.worker.start()

    def _find_files(
        self, case: str, identity: str
    ) -> tuple[logbook.LoggedPrediction, Path, Path, dict[str, Any], float]:
        runtime = local_runtime(self._home)
        logged = logbook.find_prediction(Home(self._home).case(case).online, identity)
        if logged is None:
            raise LookupError("The prediction is not in this home's log: the gateway serves another home.")
        model = find_version_file(self._home, case, logged.version, ONE_ROW)
        run = lineage.find_pushing_run(store.runs(runtime.metadata, case), logged.version)
        if run is None:
            raise LookupError(f"No run in the metadata store has pushed version {logged.version}.")
        outputs = (out for execution in trace.executions(runtime.metadata, run.id) for out in execution.outputs)
        graphs = [out.folder for out in outputs if out.type == "TransformGraph" and out.folder.is_dir()]
        if not graphs:
            raise LookupError(f"The transform graph of run {run.id} has been deleted.")
        facts = json.loads((model.parent / "model.json").read_text())
        return logged, graphs[-1], model, facts, float(run.settings["gates"]["lite_tolerance"])

    async def _compute_tensors(self, graph: Path, record: bytes) -> dict[str, list[float]]:
        async with self._lock:
            try:
                response = await self.worker.request({"graph": str(graph), "record": base64.b64encode(record).decode()})
            except BaseException:
                await self.worker.kill()  # otherwise the next request would read the response to this one
                raise
        if "error" in response:
            raise ValueError(f"The transform graph cannot be applied: {response['error']}")
        return response["inputs"]


def find_version_file(home: Path, case: str, version: int, name: str) -> Path:
    """Find a file in the ``assets.extra`` folder of a pushed version.

    Raises:
        LookupError: if the version or the file does not exist.
    """
    folder = Path(str(local_runtime(home).case(case).versions))
    path = folder / str(version) / EXTRA / name
    if case not in CASES or version not in rollout.list_versions(folder) or not path.is_file():
        raise LookupError(f"Version {version} of {case} has no {name}; `showcase run {case}` pushes one with it.")
    return path


def _compare_outputs(
    logged: logbook.LoggedPrediction,
    features: Mapping[str, list[float]],
    model: Path,
    facts: Mapping[str, Any],
    tolerance: float,
) -> PredictionComparison:
    interpreter = Interpreter(model.read_bytes())
    inputs = {name: features[name] for name in interpreter.inputs}
    signature = interpreter.inputs.items()
    rows = {name: np.asarray(inputs[name], tensor.dtype).reshape(1, *tensor.shape) for name, tensor in signature}
    outputs = {name: output.ravel().tolist() for name, output in interpreter.answer(rows).items()}
    values = decode(logged.record)
    server = {name: values[f"output/{name}"] for name in outputs if f"output/{name}" in values}
    latency = interpreter.latency(rows, TIMED_CALLS)
    return PredictionComparison(
        version=logged.version,
        inputs=inputs,
        server=server,
        python=outputs,
        microseconds=latency,
        tolerance=tolerance,
        names=tuple(list_classes(facts["settings"])),
    )
