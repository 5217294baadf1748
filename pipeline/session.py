"""From a command to a finished run: what is asked, whether it has been done before, and what came of it."""

import gc
import hashlib
import json
import os
import signal
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from models import defaults, spans
from models.errors import DataError
from models.use_case import UseCase
from pipeline import code, store, tracking
from pipeline import facts as known
from pipeline.progress import Progress, Report
from pipeline.refresh import Base
from pipeline.runtime import Runtime


@dataclass(frozen=True)
class Request:
    """What a person asked for.

    Attributes:
        case: The use case.
        data: Path or name of the data; None for the embedded one.
        first: First span; -1 for the first there is.
        last: Last span; -1 for the last there is.
        changes: Settings by name, as text.
        schema: Path of a schema to use in place of the case's own.
        refresh: Whether the served model is refined on newer spans, in place of training anew.
        tune: Whether the Tuner searches for better settings than those that were not changed.
        decision: Name of the decision that this follows from; empty where a person asked.
    """

    case: UseCase
    data: str | None = None
    first: int = -1
    last: int = -1
    changes: Mapping[str, str] | None = None
    schema: Path | None = None
    tune: bool = False
    refresh: bool = False
    decision: str = ""


@dataclass(frozen=True)
class Plan:
    """A request made definite: one run to be built.

    Attributes:
        case: The use case.
        source: Folder of the raw spans.
        first: First span of the window.
        last: Last span of the window.
        settings: The case's settings by group, with all changes and what the data decided.
        schema: The curated schema as text, without comments.
        versions: Folder that a model server watches.
        data_version: Content digest of the window.
        space: What the Tuner may try, by the name of a training setting; empty for a run without it.
        base: The served model that is refined; None to train from scratch.
        decision: Name of the decision that this follows from; it decides nothing of the result.
    """

    case: UseCase
    source: str
    first: int
    last: int
    settings: Mapping[str, Mapping[str, Any]]
    schema: str
    versions: str
    data_version: str
    space: Mapping[str, Any] = field(default_factory=dict)
    base: Base | None = None
    decision: str = ""

    def config(self, *groups: str) -> dict[str, Any]:
        """What a stage of ours is told: the settings of its groups and no others, so that only they invalidate it."""
        settings = {name: value for group in groups for name, value in self.settings[group].items()}
        return {"case": self.case.name, "settings": settings}

    def fingerprint(self) -> str:
        """A hash of all that decides the result: data, settings, schema, code, libraries."""
        names = ("data", "features", "model", "evaluation", "sentences")
        modules = [self.case.module(name) for name in names]
        parts = [
            self.case.name,
            self.source,
            self.first,
            self.last,
            self.settings,
            self.schema,
            self.data_version,
            self.space,
            self.base and asdict(self.base),
            self.case.watching,
            code.digest("pipeline.graph", "models.training", *modules),
            [version(name) for name in known.PACKAGES],
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def plan(request: Request, runtime: Runtime) -> Plan:
    """Finds and checks the data, and settles every setting, before anything is started.

    Raises:
        DataError: if the data is not what the case needs.
        MetadataUnavailableError: if the metadata store's server does not answer.
        ValueError: for an unknown setting, or settings that do not go together.
    """
    settings = request.case.configured(request.changes or {})
    runtime.metadata.exists()  # raises before data are prepared if the server does not answer
    base = Base.of(request.case, runtime) if request.refresh else None
    if base:
        chosen = {name: settings["training"][name] for name in request.changes or {} if name in settings["training"]}
        settings["training"] |= {**base.settings, **defaults.REFRESH, **chosen}
    defaults.check(settings["training"])
    data = request.case.load("data")
    source = data.prepare(request.data, Path(runtime.root, "data"), settings["data"]).resolve()
    window = spans.window(source, request.first, request.last)
    if base and (request.first, request.last) == (-1, -1):
        window = spans.window(source, *base.window(request.case.name, str(source), max(window)))
    settings["data"] |= data.check(window, settings["data"])
    schema = request.schema or request.case.schema_path
    if not schema.is_file():
        raise DataError(f"There is no schema {schema}; --schema takes a file written by `showcase schema`.")
    return Plan(
        case=request.case,
        source=str(source),
        first=min(window),
        last=max(window),
        settings=settings,
        schema=read_schema(schema),
        versions=runtime.versions(request.case.name),
        data_version=spans.digest(window.values()),
        space=space(request) if request.tune else {},
        base=base,
        decision=request.decision,
    )


def read_schema(path: Path) -> str:
    """Read a schema as text in its canonical form, so that comments and blank lines in the file change no cache key.

    Raises:
        DataError: if the file is not a schema, with the line.
    """
    # Not needed by commands that plan nothing.
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    try:
        return text_format.MessageToString(text_format.Parse(path.read_text(), schema_pb2.Schema()))
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a schema: {error}. Write a draft with `showcase schema`.") from error


def space(request: Request) -> dict[str, Any]:
    """What the case lets the Tuner try, less what the person has set."""
    space = {name: kind for name, kind in request.case.space.items() if name not in (request.changes or {})}
    if not space:
        raise ValueError(
            f"There is nothing to tune: {request.case.name} has no search space, or --set settles all of it."
        )
    return space


def execute(plan: Plan, runtime: Runtime, fresh: bool, report: Report) -> store.Run:
    """Runs the plan, goes on with it, or finds it done.

    A run of the same fingerprint that ended in a push, whose model is still the last one blessed, is the answer: it is
    registered as a cached run without TensorFlow being imported. One that was killed is taken up under its own name, so
    that its finished stages stand and its choice of blessed model stays.

    Raises:
        BusyError: if another run of the case is under way in this home.
    """
    with store.alone(Path(runtime.root, plan.case.name, "run.lock"), f"run of {plan.case.name}"):
        return _execute(plan, runtime, fresh, report)


def _execute(plan: Plan, runtime: Runtime, fresh: bool, report: Report) -> store.Run:
    run = begin(plan, runtime, fresh)
    if run.state == "pushed":
        report({name: Progress("cached") for name in store.stage_states(runtime.metadata, run.id)})
        return run
    return _run(plan, runtime, run, fresh, report)


def begin(plan: Plan, runtime: Runtime, fresh: bool = False, given: str = "") -> store.Run:
    """Registers a run: found done, then it is pushed already; or to be gone on with; or new.

    Args:
        given: The run's name, by who runs the stages elsewhere; then no other run is taken up, since nobody here knows if
            it is dead.
    """
    past = store.runs(runtime.metadata, plan.case.name)
    fingerprint = plan.fingerprint()
    same = [run for run in past if run.fingerprint == fingerprint]
    if given and same and same[-1].id == given:  # the task that begins the run is tried again
        return same[-1]
    if not fresh and same and same[-1].state == "pushed" and _is_current(same[-1], past):
        return _cached(plan, runtime, same[-1], given)
    unfinished = (
        same and same[-1].state in ("running", "stopped", "interrupted", "failed") and past[-1].id == same[-1].id
    )
    mine = {} if given else {"pid": str(os.getpid())}
    if unfinished and not fresh and not given:
        run = replace(same[-1], state="running", reason="", facts={**same[-1].facts, **mine})
    else:
        run_id = given or name(plan.case.name)
        run = store.Run(run_id, plan.case.name, "running", "", fingerprint, known.of(plan) | mine)
    store.save(runtime.metadata, run)
    return run


def end(
    runtime: Runtime, run: store.Run, state: str, reason: str, facts: Mapping[str, str], tracker: tracking.Tracker
) -> store.Run:
    """Writes down what came of a run, then has it tracked."""
    ended = replace(run, state=state, reason=reason, facts={**run.facts, **facts, "ended": store.now()})
    store.save(runtime.metadata, ended)
    # Saved as it is first: nothing that happens to the tracker can take a run's end away.
    tracked = replace(ended, facts={**ended.facts, **tracker.finish(ended)})
    store.save(runtime.metadata, tracked)
    return tracked


def _run(plan: Plan, runtime: Runtime, run: store.Run, fresh: bool, report: Report) -> store.Run:
    logs = Path(runtime.root, plan.case.name, "logs", run.id)
    tracker = tracking.Tracker(runtime, logs / "tracking.log")
    try:
        with stderr_to(logs / "run.log"):
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, signal.default_int_handler)
            graph, runner, verdict = imported()
            ir = runner.compiled(graph.build(plan), plan.case.name, runtime, run.id, salt=run.id if fresh else "")
            with runtime.beam.beside(logs):
                progress = runner.run(ir, runtime, logs, report)
            state, reason, facts = verdict.of(runtime, run.id, progress, plan)
            facts["stages"] = json.dumps({name: asdict(one) for name, one in progress.items()})
    except KeyboardInterrupt:
        state, facts = "interrupted", {}
        reason = "Interrupted; the same command goes on from the last finished stage."
    except Exception as error:
        with (logs / "run.log").open("a") as log:
            traceback.print_exception(error, file=log)
        state, facts = "failed", {}
        reason = f"{type(error).__name__}: {error} The whole story is in {logs / 'run.log'}."
    return end(runtime, run, state, reason, facts, tracker)


def imported() -> tuple[Any, Any, Any]:
    """The modules that need TFX. Imports make millions of objects that stay: to collect them costs a tenth of the start."""
    gc.disable()
    from pipeline import graph, runner, verdict

    gc.freeze()
    gc.enable()
    return graph, runner, verdict


@contextmanager
def stderr_to(path: Path) -> Iterator[None]:
    """Sends what libraries write to standard error to a log file; C++ code writes to the descriptor itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = os.dup(2)
    with path.open("a") as log:
        os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _cached(plan: Plan, runtime: Runtime, done: store.Run, given: str) -> store.Run:
    run_id = given or name(plan.case.name)
    store.copy_as_cached(runtime.metadata, done.id, run_id)
    facts = {**done.facts, "started": store.now(), "ended": store.now(), "same_as": done.facts.get("same_as", done.id)}
    facts |= {"decision": plan.decision}
    run = replace(done, id=run_id, facts=facts)
    store.save(runtime.metadata, run)
    return run


def _is_current(run: store.Run, past: list[store.Run]) -> bool:
    """Whether the run's version is there and no later run pushed another: else the comparison has to be made anew."""
    pushed = [one for one in past if one.state == "pushed"]
    return pushed[-1].facts.get("pushed") == run.facts.get("pushed") and Path(run.facts["pushed"]).is_dir()


def name(case: str) -> str:
    return f"{case}-{datetime.now():%Y%m%d-%H%M%S-%f}"[:-3]
