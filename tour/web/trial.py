"""What the Try page is made of: real rows of the newest span to begin with, and one request answered by LiteRT too."""

import asyncio
import base64
import contextlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from models.catalog import CASES, find_use_case
from pipeline.checkout import ROOT
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from serving import rollout
from serving.edge.interpreter import Interpreter
from serving.gateway.log.tf_example import decode
from tour import lineage, logbook, trace

READ, KEPT = 4000, 12  # rows of the span that are looked at, and how many of each kind are offered
EXTRA, ONE_ROW = "assets.extra", "one_row.tflite"
CHOICES = 24  # values of a field that a person may choose from, at most
CALLS = 50
LINE, SECONDS = 32 << 20, 240.0


@dataclass(frozen=True)
class Start:
    """What a form begins with.

    Attributes:
        usual: Bodies of requests with the commonest label.
        odd: Bodies with the rarest label; for several classes none.
        every: One body a label, by label, where there are several.
        key: The field by which a client names its row.
        choices: Values of the fields that have few.
        span: Number of the span that they are from.
        problem: Why there are none; empty if there are.
    """

    usual: tuple[dict[str, Any], ...] = ()
    odd: tuple[dict[str, Any], ...] = ()
    every: Mapping[str, dict[str, Any]] | None = None
    key: str = ""
    choices: Mapping[str, tuple[str, ...]] | None = None
    span: int = 0
    problem: str = ""


def start(home: Path, case: str) -> Start:
    """Rows of the newest span that the last pushed run has learnt from."""
    runs = [run for run in store.runs(local_runtime(home).metadata, case) if run.state == "pushed"]
    if not runs:
        return Start(problem=f"Nothing of {case} has been pushed: `showcase run {case} --home {home}`.")
    facts, use_case = runs[-1].facts, find_use_case(case)
    span = int(facts["spans"].rpartition(":")[2])
    try:
        rows = use_case.load("traffic").requests(
            facts["source"], facts["source"], home / "data", span, span, (), json.loads(facts["settings"])["data"]
        )
        return _start(list(islice(rows, READ)), use_case.load("online").online(), span)
    except (OSError, ValueError, LookupError) as error:
        return Start(problem=f"The newest span cannot be read: {error}")


def _start(rows: list[tuple[dict[str, Any], dict[str, Any] | None]], online: Any, span: int) -> Start:
    by_label: dict[str, list[dict[str, Any]]] = {}
    for body, told in rows:
        by_label.setdefault(str(told["label"]) if told else "", []).append(body)
    ranked = sorted(by_label, key=lambda label: len(by_label[label]))
    if not ranked:
        return Start(problem="The newest span is empty.")
    first = rows[0][0]
    values = {name: sorted({body[name] for body, _ in rows if isinstance(body[name], str)}) for name in first}
    usual, key = by_label[ranked[-1]], online.key({name: name for name in first})
    few = min(CHOICES, len(rows) // 2)  # values that hardly come again are no choice
    return Start(
        usual=tuple(usual[:: max(1, len(usual) // KEPT)][:KEPT]),
        odd=tuple(_strangest(by_label[ranked[0]], usual)[:KEPT]) if len(ranked) > 1 else (),
        every={label: by_label[label][0] for label in sorted(by_label)} if len(ranked) > 2 else None,
        key=key,
        choices={name: tuple(found) for name, found in values.items() if 1 < len(found) <= few and name != key},
        span=span,
    )


def _strangest(rows: list[dict[str, Any]], usual: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows whose numbers lie farthest from those of usual rows first, in units of the usual spread."""
    names = [name for name, value in usual[0].items() if isinstance(value, int | float)]
    table = np.array([[row[name] or 0.0 for name in names] for row in usual], float)
    middle = np.median(table, axis=0)
    spread = np.median(np.abs(table - middle), axis=0) + 1e-9
    return sorted(
        rows, key=lambda row: -np.sum(np.abs(np.array([row[name] or 0.0 for name in names]) - middle) / spread)
    )


@dataclass(frozen=True)
class Answered:
    """One logged request, as the server and LiteRT answer it.

    Attributes:
        version: That answered.
        inputs: What the network read, flat.
        server: Its outputs as the log has them, flat.
        python: LiteRT's in Python, flat.
        microseconds: Of one call of LiteRT in Python, the median of ``CALLS``.
        tolerance: The difference that the run's gate allows.
        names: Of the classes; empty where there are none.
    """

    version: int
    inputs: Mapping[str, list[float]]
    server: Mapping[str, list[float]]
    python: Mapping[str, list[float]]
    microseconds: float
    tolerance: float
    names: tuple[str, ...]


class Beside:
    """Answers logged requests with LiteRT; keeps one process that has the transform graphs loaded.

    Attributes:
        command: What that process is.
    """

    def __init__(self, home: Path) -> None:
        self.command = [sys.executable, "-m", "tour.web.tensors"]
        self._home, self._turn = home, asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None

    async def answer(self, case: str, identity: str) -> Answered:
        """The same request by LiteRT in Python.

        Raises:
            LookupError: if something of it is not there any more, saying what.
            ValueError: if the transform cannot be computed.
            TimeoutError: if it takes longer than ``SECONDS``.
        """
        one, graph, model, told, tolerance = await asyncio.to_thread(self._known, case, identity)
        features = await asyncio.wait_for(self._dense(graph, one.record), SECONDS)
        return await asyncio.to_thread(_answered, one, features, model, told, tolerance)

    async def warm(self) -> None:
        """Starts the process, so that TensorFlow is there when somebody asks."""
        async with self._turn:
            await self._started()

    async def close(self) -> None:
        """Ends the process."""
        process, self._process = self._process, None
        if process and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _known(self, case: str, identity: str) -> tuple[logbook.LoggedPrediction, Path, Path, dict[str, Any], float]:
        runtime = local_runtime(self._home)
        one = logbook.find_prediction(self._home / case / "online", identity)
        if one is None:
            raise LookupError("The prediction is not in this home's log: the gateway serves another home.")
        model = version_file(self._home, case, one.version, ONE_ROW)
        run = lineage.find_pushing_run(store.runs(runtime.metadata, case), one.version)
        if run is None:
            raise LookupError(f"No run in the store says that it pushed version {one.version}.")
        outputs = (out for execution in trace.executions(runtime.metadata, run.id) for out in execution.outputs)
        graphs = [out.folder for out in outputs if out.type == "TransformGraph" and out.folder.is_dir()]
        if not graphs:
            raise LookupError(f"The transform graph of {run.id} is not there any more.")
        told = json.loads((model.parent / "model.json").read_text())
        return one, graphs[-1], model, told, float(json.loads(run.facts["settings"])["gates"]["lite_tolerance"])

    async def _dense(self, graph: Path, record: bytes) -> dict[str, list[float]]:
        async with self._turn:
            try:
                told = await self._asked({"graph": str(graph), "record": base64.b64encode(record).decode()})
            except BaseException:
                await self.close()  # an answer that nobody waited for must not be the next one's
                raise
        if "error" in told:
            raise ValueError(f"The transform graph cannot be applied: {told['error']}")
        return told["inputs"]

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                cwd=ROOT,
                limit=LINE,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        return self._process

    async def _asked(self, asked: Mapping[str, str]) -> dict[str, Any]:
        process = await self._started()
        assert process.stdin and process.stdout, "both are pipes"
        process.stdin.write(json.dumps(asked).encode() + b"\n")
        line = await process.stdout.readline()
        if not line:
            raise ValueError("The process that applies transform graphs has ended.")
        return json.loads(line)


def version_file(home: Path, case: str, version: int, name: str) -> Path:
    """A file beside a pushed model.

    Raises:
        LookupError: if the version or the file is not there.
    """
    folder = Path(str(local_runtime(home).case(case).versions))
    path = folder / str(version) / EXTRA / name
    if case not in CASES or version not in rollout.list_versions(folder) or not path.is_file():
        raise LookupError(f"Version {version} of {case} has no {name}; `showcase run {case}` pushes one that has.")
    return path


def _answered(
    one: logbook.LoggedPrediction,
    features: Mapping[str, list[float]],
    model: Path,
    told: Mapping[str, Any],
    tolerance: float,
) -> Answered:
    interpreter = Interpreter(model.read_bytes())
    inputs = {name: features[name] for name in interpreter.inputs}
    wanted = interpreter.inputs.items()
    rows = {name: np.asarray(inputs[name], tensor.dtype).reshape(1, *tensor.shape) for name, tensor in wanted}
    outputs = {name: values.ravel().tolist() for name, values in interpreter.answer(rows).items()}
    logged = decode(one.record)
    server = {name: logged[f"output/{name}"] for name in outputs if f"output/{name}" in logged}
    names = told["settings"].get("classes", "")
    latency = interpreter.latency(rows, CALLS)
    return Answered(one.version, inputs, server, outputs, latency, tolerance, tuple(names.split(",")) if names else ())
