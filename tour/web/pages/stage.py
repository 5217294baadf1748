"""The Stages pages: a stage's state, artifacts, interview questions and current code."""

import asyncio
import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, Response

from models.catalog import CASES
from pipeline.checkout import ROOT
from pipeline.home import Home
from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress
from pipeline.run import Run
from serving.atomic_file import write_atomically
from tour import figures, highlight, notes, trace
from tour.artifacts import curves
from tour.artifacts.parts import Part, RunContext, Threshold
from tour.artifacts.readers import read_parts
from tour.evidence import render
from tour.evidence.result_types import Table
from tour.trace import Artifact, Execution
from tour.web import sources

router = APIRouter()
CODE_LINES, RUNS = 300, 6
TIMEOUT_SECONDS = 900.0  # to read a transform graph; long because a training may run on the same machine
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
MONITORING = "Monitoring"
tasks: dict[Path, asyncio.Task[str]] = {}


@router.get("/stages", response_class=HTMLResponse)
async def stages(request: Request) -> HTMLResponse:
    """Render the stages of the last run of each case, and of its last monitoring run."""
    groups = await asyncio.to_thread(_groups, request.app.state.home)
    return request.app.state.page(request, "stages.html", active="Stages", groups=groups)


@router.get("/stage/{case}/{node}", response_class=HTMLResponse)
@router.get("/stages/{case}/{node}", response_class=HTMLResponse)
async def stage(request: Request, case: str, node: str, run: str = "") -> HTMLResponse:
    """Render one stage of one run, by default of the last run that has it."""
    values = await asyncio.to_thread(_stage, request.app.state.home, case, node, run)
    return request.app.state.page(request, "stage.html", active="Stages", **values)


@router.get("/figure/{case}/{run}/learnt", response_class=HTMLResponse)
async def learnt(request: Request, case: str, run: str) -> HTMLResponse:
    """Render the constants of a run's transform graph as a part of a page; compute them once and store them."""
    home = request.app.state.home
    graph = await asyncio.to_thread(_find_artifact, home, case, run, "TransformGraph")
    path = home / "tour" / f"transform-{graph.id}-{graph.folder.name}.json"
    if path.is_file():
        text = await asyncio.to_thread(path.read_text)
    else:
        # Simultaneous requests wait for the same process.
        task = tasks.setdefault(path, asyncio.create_task(_read_transform_graph(home, case, run, path)))
        task.add_done_callback(lambda _: tasks.pop(path, None))
        text = await asyncio.shield(task)
    results = json.loads(text)
    return request.app.state.page(request, "stage_learnt.html", results=results)


@router.get("/report/{case}/{artifact}", response_class=HTMLResponse)
async def report(request: Request, case: str, artifact: int) -> Response:
    """Return the report of a retraining decision unchanged, with a content security policy that forbids scripts."""
    producer = await asyncio.to_thread(trace.find_producer, Home(request.app.state.home).metadata, artifact)
    outputs = producer[1].outputs if producer else ()
    decisions = [output for output in outputs if output.id == artifact and output.type == "Decision"]
    if case not in CASES or not decisions or not (path := decisions[0].folder / "report.html").is_file():
        raise HTTPException(404, "There is no such report.")
    return HTMLResponse(await asyncio.to_thread(path.read_text), headers={"content-security-policy": REPORT_POLICY})


async def _read_transform_graph(home: Path, case: str, run: str, path: Path) -> str:
    """Read the transform graph in another process, which imports TensorFlow; store the results at ``path`` if possible."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tour.artifacts.transform",
        str(home.resolve()),
        case,
        run,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_SECONDS)
    except TimeoutError:
        process.kill()
        raise HTTPException(504, f"TensorFlow did not read the graph within {TIMEOUT_SECONDS:.0f} s.") from None
    if process.returncode:
        raise HTTPException(500, "TensorFlow could not read the graph; `python -m tour.artifacts.transform` shows why.")
    with suppress(OSError):  # a home without write permission is read all the same
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, out)
    return out.decode()


def _groups(home: Path) -> list[dict[str, Any]]:
    metadata, groups = Home(home).metadata, []
    for case, use_case in CASES.items():
        runs = store.runs(metadata, case)
        last = runs[-1].id if runs else ""
        empty = f"No run of {case} yet; `showcase run {case} --home {home}` starts one."
        groups.append(
            {
                "title": use_case.title,
                "case": case,
                "run": last,
                "query": False,
                "empty": empty,
                "stages": _list_stages(metadata, case, last),
            }
        )
        if monitoring_runs := _monitoring_runs(home, case):
            groups.append(
                {
                    "title": f"{use_case.title}: {MONITORING.lower()}",
                    "case": case,
                    "run": monitoring_runs[-1],
                    "query": True,
                    "empty": "",
                    "stages": _list_stages(metadata, case, monitoring_runs[-1]),
                }
            )
    return groups


def _list_stages(metadata: MetadataAddress, case: str, run: str) -> list[dict[str, str]]:
    executions = trace.executions(metadata, run) if run else []
    return [
        {"node": execution.node, "state": execution.state, "sentence": _summary(execution.node, case)}
        for execution in executions
    ]


def _summary(node: str, case: str) -> str:
    pieces = sources.find_stage_code(node, case)
    return pieces[0].sentence if pieces else ""


def _monitoring_runs(home: Path, case: str) -> list[str]:
    """Ids of the monitoring pipeline's runs."""
    return trace.run_ids(Home(home).metadata, f"{case}-monitor-")


def _runs(home: Path, case: str) -> dict[str, Run | None]:
    """All runs of a case by id, the newest first; None for a monitoring run, which has no run record."""
    if case not in CASES:
        raise HTTPException(404, f"There is no use case '{case[:40]}'.")
    runs = {run.id: run for run in Home(home).runs(case)}
    return dict(reversed([*dict.fromkeys(_monitoring_runs(home, case)).items(), *runs.items()]))


def _stage(home: Path, case: str, node: str, run_id: str) -> dict[str, Any]:
    runs, metadata = _runs(home, case), Home(home).metadata
    if run_id and run_id not in runs:
        raise HTTPException(404, f"There is no run '{run_id[:80]}' of {case}.")
    by_run = {name: trace.executions(metadata, name) for name in ([run_id] if run_id else list(runs)[:RUNS])}
    matching = [name for name, ran in by_run.items() if node in {execution.node for execution in ran}]
    pieces = sources.find_stage_code(node, case)
    if not matching and not (run_id and pieces):
        raise HTTPException(404, f"No run of {case} has a stage '{node[:80]}'.")
    name = matching[0] if matching else run_id
    run, executions = runs[name], by_run[name]
    not_reached = Execution(0, node, "not reached", (), ())
    execution = next((execution for execution in executions if execution.node == node), not_reached)
    context = _run_context(case, name, run, executions)
    outcome = json.loads(context.facts.get("stages") or "{}").get(node, {})
    return {
        "case": case,
        "node": node,
        "run": name,
        "state": outcome.get("state", execution.state),
        "sentence": pieces[0].sentence if pieces else "",
        "message": outcome.get("message", ""),
        "facts": _facts(outcome, context.facts),
        "strip": executions,
        "judged": not execution.outputs,
        "runs": [other for other in runs if ("-monitor-" in other) == ("-monitor-" in name)][:RUNS],
        "artifacts": [_render_values(metadata, case, each, context) for each in execution.outputs or execution.inputs],
        "questions": sources.find_notes(pieces, notes.current()),
        "pieces": pieces,
        "lines": _highlight,
        "plain": _to_values,
        "counts": _threshold_json,
        "confident": lambda part: json.dumps(part.table),
    }


def _run_context(case: str, name: str, run: Run | None, executions: list[Execution]) -> RunContext:
    facts = run.facts | {"reason": run.reason} if run else {}
    outputs = {output.key: output for execution in executions for output in execution.outputs}
    settings = json.loads(facts.get("settings") or "{}")
    return RunContext(case=case, run=name, facts=facts, outputs=outputs, metric=CASES[case].headline, settings=settings)


def _facts(outcome: Mapping[str, Any], facts: Mapping[str, str]) -> list[tuple[str, str]]:
    rows = []
    if "seconds" in outcome:
        rows.append(("Duration", f"{outcome['seconds']:.1f} s"))
    if outcome.get("cpu_seconds"):
        rows.append(("CPU time", f"{outcome['cpu_seconds']:.1f} s"))
    if outcome.get("peak_mb"):
        rows.append(("Peak memory", f"{outcome['peak_mb']:.0f} MB"))
    for name, key in (("Spans", "spans"), ("Commit", "commit"), ("Run started", "started")):
        rows += [(name, facts[key])] if facts.get(key) else []
    return rows


def _render_values(metadata: MetadataAddress, case: str, artifact: Artifact, context: RunContext) -> dict[str, Any]:
    producer = trace.find_producer(metadata, artifact.id)
    page = f"/report/{case}/{artifact.id}" if artifact.type == "Decision" else ""
    return {
        "artifact": artifact,
        "parts": read_parts(artifact, context),
        "producer": producer[0] if producer else "",
        "page": page,
        "sources": producer[1].inputs if producer else (),
    }


def _find_artifact(home: Path, case: str, run: str, kind: str) -> Artifact:
    if run not in _runs(home, case):
        raise HTTPException(404, f"There is no run '{run[:80]}' of {case}.")
    for execution in trace.executions(Home(home).metadata, run):
        for output in execution.outputs:
            if output.type == kind and output.folder.is_dir():
                return output
    raise HTTPException(404, f"Run '{run[:80]}' has no artifact of type {kind}.")


def _highlight(piece: sources.CodePiece) -> Any:
    return highlight.highlight_source(piece, CODE_LINES)


def _to_values(part: Part) -> dict[str, Any]:
    """Convert a result of evidence to the values that the template expects; tables are cut after 100 rows."""
    values = render.to_json(part)
    if isinstance(part, Table):
        values["rows"] = values["rows"][:100]
    return values | {"svg": figures.svg(part)}


def _threshold_json(part: Threshold) -> str:
    return curves.to_json(part.table, part.prices)
