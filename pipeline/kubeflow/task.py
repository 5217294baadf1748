"""What a task of Kubeflow Pipelines does in its pod: begin the run, run one node of the graph, or end the run.

The same plan, graph, launcher and verdict as on one machine; only who starts the nodes differs. Data are looked at once, when
the run begins, so that spans that arrive meanwhile do not divide the nodes; all nodes read the plan that was made then.
"""

import json
import sys
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.catalog import find
from pipeline import session
from pipeline.kubeflow.deployment import pod_runtime
from pipeline.metadata import store, store_address
from pipeline.online import rollouts
from pipeline.plan import Plan, Request, make_plan, search_space
from pipeline.progress import Progress
from pipeline.refresh import Base
from pipeline.runtime import Runtime
from pipeline.tracking.recording import Tracker


@dataclass(frozen=True)
class Task:
    """One task's place.

    Attributes:
        run: The run's name, which Kubeflow gives.
        root: Folder that all pods mount.
        database: Address of the metadata store; empty for a SQLite file, where all tasks run on one machine.
        tracking: Address of the experiment tracker; empty for none.
        flink: HOST:PORT of Beam's job server; empty for Beam in the task's own process.
    """

    run: str
    root: str
    database: str = ""
    tracking: str = ""
    flink: str = ""

    @property
    def runtime(self) -> Runtime:
        """Where the graph runs."""
        return pod_runtime(self.root, self.database, self.tracking, self.flink)

    @property
    def _path(self) -> Path:
        return Path(self.root, "kubeflow", f"{self.run}.json")

    def begin(self, request: str) -> None:
        """Settles the plan and registers the run; one that was done before is registered as cached.

        Args:
            request: JSON of :func:`told`.
        """
        if self.database:
            store_address.note(Path(self.root), self.database)
        plan = make_plan(asked(request), self.runtime)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(written(plan))
        run = session.begin(plan, self.runtime, given=self.run)
        print(f"run {run.id}: data {plan.source} spans {plan.first}:{plan.last}, {run.state} {run.reason}", flush=True)

    def node(self, name: str) -> None:
        """Runs one node by TFX's launcher, unless the run has it already.

        Raises:
            SystemExit: if it failed or a gate refused; the run's record says why, too.
        """
        plan, runtime = self._plan(), self.runtime
        state = store.stage_states(runtime.metadata, self.run).get(name)
        if state not in ("done", "cached"):
            from pipeline import graph
            from pipeline.local import runner

            ir = runner.compiled(graph.build(plan), plan.case.name, runtime, self.run)
            try:
                state = runner.launch(ir, name, runtime.metadata)
            except Exception as error:
                traceback.print_exc()
                told = runner.failure(error)
                self._end(told["state"], f"{name}: {told['message']}")
        print(f"{name} {state}", flush=True)

    def end(self) -> None:
        """Says what came of the run, in its record and by the exit code.

        Raises:
            SystemExit: if nothing was pushed.
        """
        run = self._run()
        if run.state == "pushed":
            print(f"pushed {run.reason}", flush=True)
            return
        from pipeline import outcome

        progress = {
            name: Progress(state) for name, state in store.stage_states(self.runtime.metadata, self.run).items()
        }
        state, reason, facts = outcome.of(self.runtime, self.run, progress, self._plan())
        facts["stages"] = json.dumps({name: asdict(one) for name, one in progress.items()})
        self._end(state, reason, facts)

    def _end(self, state: str, reason: str, facts: dict[str, str] | None = None) -> None:
        tracker = Tracker(self.runtime, self._path.with_suffix(".log"))
        session.end(self.runtime, self._run(), state, reason, facts or {}, tracker)
        print(f"{state} {reason}", flush=True)
        if state != "pushed":
            sys.exit(1)
        rollouts.write_config(Path(self.root))  # which a TensorFlow Serving polls

    def _run(self) -> store.Run:
        return next(run for run in store.runs(self.runtime.metadata) if run.id == self.run)

    def _plan(self) -> Plan:
        return read(self._path.read_text())


def told(request: Request) -> str:
    """A request as JSON, for the spec to carry."""
    return json.dumps({**_fields(request), "case": request.case.name, "schema": str(request.schema or "")})


def asked(text: str) -> Request:
    """The reverse of :func:`told`.

    Raises:
        ValueError: if the text is none, or names what there is not.
    """
    try:
        fields = json.loads(text)
        case, schema = find(fields.pop("case")), fields.pop("schema")
        return Request(case, schema=Path(schema) if schema else None, **fields)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"The request is not one that `showcase compile` writes: {error!r}.") from None


def written(plan: Plan) -> str:
    """A plan as JSON."""
    base = asdict(plan.base) if plan.base else None
    return json.dumps({**_fields(plan), "case": plan.case.name, "base": base}, indent=1)


def read(text: str) -> Plan:
    """The reverse of :func:`written`."""
    fields = json.loads(text)
    base = fields.pop("base")
    return Plan(case=find(fields.pop("case")), base=Base(**base) if base else None, **fields)


def outline(request: Request) -> Plan:
    """A plan without data: enough to know which nodes there are and in which order, where the data cannot be seen."""
    settings = request.case.configured(request.changes or {})
    space = search_space(request) if request.tune else {}
    return Plan(
        case=request.case,
        source="",
        first=0,
        last=0,
        settings=settings,
        schema="",
        versions="versions",
        data_version="",
        space=space,
    )


def _fields(noun: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(noun).items() if name not in ("case", "base")}
