"""Entry points of a Kubeflow Pipelines task in its pod: begin the run, run one node of the graph, or end the run.

Plan, graph, launcher and outcome are the same as on one machine; only the orchestrator differs. The data is inspected once,
when the run begins, and every node reads the plan made then, so that spans that arrive later cannot split the run.
"""

import json
import sys
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.catalog import find_use_case
from pipeline import session
from pipeline.kubeflow.deployment import pod_runtime
from pipeline.local.progress import Progress
from pipeline.metadata import store, store_address
from pipeline.online import rollouts
from pipeline.plan import Plan, RunRequest, make_plan, search_space
from pipeline.refresh import RefreshBase
from pipeline.run import Run
from pipeline.runtime import Runtime
from pipeline.tracking.recording import Tracker
from serving import bucket

# Exit code of a task whose gate refused; such a task is not worth a retry, unlike one whose pod was lost.
REFUSED = 3


@dataclass(frozen=True)
class KubeflowTask:
    """The environment of one task.

    Attributes:
        run: Id of the run, assigned by Kubeflow.
        root: Folder that all pods mount, or its URI in a bucket.
        database: Address of the metadata store; empty for a SQLite file, if all tasks run on one machine.
        tracking: Address of the experiment tracker; empty for none.
        flink: HOST:PORT of Beam's job server; empty to run Beam in the task's own process.
    """

    run: str
    root: str
    database: str = ""
    tracking: str = ""
    flink: str = ""

    @property
    def runtime(self) -> Runtime:
        return pod_runtime(self.root, self.database, self.tracking, self.flink)

    @property
    def _path(self) -> Path:
        return Path(self.runtime.root, "kubeflow", f"{self.run}.json")

    def begin(self, request: str) -> None:
        """Make the plan and register the run; a run with the result of an earlier one is registered as cached.

        Args:
            request: The request as JSON, see :func:`dump_request`.
        """
        home = Path(self.runtime.root)
        if self.database:
            store_address.write_server_address(home, self.database)
        plan = make_plan(load_request(request), self.runtime)
        bucket.push_file(home / store_address.ADDRESS_FILE)
        session.upload_source(plan, self.runtime)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(bucket.to_uris(dump_plan(plan)))
        bucket.push_file(self._path)
        run = session.register_run(plan, self.runtime, external_id=self.run)
        print(f"run {run.id}: data {plan.source} spans {plan.first}:{plan.last}, {run.state} {run.reason}", flush=True)

    def node(self, name: str) -> None:
        """Run one node with TFX's launcher, unless the run has finished it already or was refused.

        Kubeflow's retry policy has no condition on the exit code, so it also starts a refused task again. The new attempt
        ends at once with the refusal that the first one recorded.

        Raises:
            SystemExit: with code 1 if the node failed, with ``REFUSED`` if a gate refused; the run's record has the reason.
        """
        plan, runtime = self._plan(), self.runtime
        if (run := self._run()).state == "refused":
            print(f"refused {run.reason}", flush=True)
            sys.exit(REFUSED)
        state = store.stage_states(runtime.metadata, self.run).get(name)
        if state not in ("done", "cached"):
            from pipeline import graph
            from pipeline.local import runner

            ir = runner.compile_graph(graph.build(plan), plan.case.name, runtime, self.run)
            try:
                state = runner.launch(ir, name, runtime.metadata)
            except Exception as error:
                traceback.print_exc()
                failure = runner.describe_failure(error)
                self._end(failure["state"], f"{name}: {failure['message']}")
        print(f"{name} {state}", flush=True)

    def end(self) -> None:
        """Record the outcome of the run and set the exit code.

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
        state, reason, facts = outcome.summarize_outcome(self.runtime, self.run, progress, self._plan())
        facts["stages"] = json.dumps({name: asdict(stage) for name, stage in progress.items()})
        self._end(state, reason, facts)

    def _end(self, state: str, reason: str, facts: dict[str, str] | None = None) -> None:
        tracker = Tracker(self.runtime, self._path.with_suffix(".log"))
        session.record_end(self.runtime, self._run(), state, reason, facts or {}, tracker)
        print(f"{state} {reason}", flush=True)
        if state != "pushed":
            sys.exit(REFUSED if state == "refused" else 1)
        rollouts.write_config(Path(self.runtime.root))  # TensorFlow Serving polls this file

    def _run(self) -> Run:
        return next(run for run in store.runs(self.runtime.metadata) if run.id == self.run)

    def _plan(self) -> Plan:
        bucket.pull_file(self._path)
        return load_plan(bucket.to_paths(self._path.read_text()))


def dump_request(request: RunRequest) -> str:
    """Return a request as JSON, which the spec contains as a parameter."""
    return json.dumps({**_fields(request), "case": request.case.name, "schema": str(request.schema or "")})


def load_request(text: str) -> RunRequest:
    """Parse a request from JSON; the inverse of :func:`dump_request`.

    Raises:
        ValueError: if the text is not a request, or names an unknown case or field.
    """
    try:
        values = json.loads(text)
        case, schema = find_use_case(values.pop("case")), values.pop("schema")
        return RunRequest(case, schema=Path(schema) if schema else None, **values)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"The request was not written by this version of `showcase compile`: {error!r}.") from None


def dump_plan(plan: Plan) -> str:
    """Return a plan as JSON, without the account of its data."""
    values = _fields(plan)
    values.pop("report")
    base = asdict(plan.base) if plan.base else None
    return json.dumps({**values, "case": plan.case.name, "base": base}, indent=1)


def load_plan(text: str) -> Plan:
    """Parse a plan from JSON; the inverse of :func:`dump_plan`."""
    values = json.loads(text)
    base = values.pop("base")
    return Plan(case=find_use_case(values.pop("case")), base=RefreshBase(**base) if base else None, **values)


def outline_plan(request: RunRequest) -> Plan:
    """Return a plan without data, which suffices to list the nodes and their order where the data is not accessible."""
    settings = request.case.configure(request.changes or {})
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


def _fields(instance: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(instance).items() if name not in ("case", "base")}
