"""The pages on stages: what each does, what it left, what it answers, and its code as it is now."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, Response

from models.catalog import CASES
from pipeline.checkout import ROOT
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress
from pipeline.run import Run
from tour import highlight, notes, trace
from tour.artifacts import curves
from tour.artifacts.parts import Part, RunContext, Threshold
from tour.artifacts.readers import read_parts
from tour.evidence import render
from tour.evidence.result_types import Table
from tour.trace import Artifact, Execution
from tour.web import sources

router = APIRouter()
CODE_LINES, RUNS = 300, 6
LEARNT_SECONDS = 900.0  # a machine that trains beside it is slow
REPORT = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
WATCHING = "Watching what is served"
working: dict[Path, asyncio.Task[None]] = {}


@router.get("/stages", response_class=HTMLResponse)
async def stages(request: Request) -> HTMLResponse:
    """The stages of the last run of every case, and of its last look at the log."""
    groups = await asyncio.to_thread(_groups, request.app.state.home)
    return request.app.state.page(request, "stages.html", active="Stages", groups=groups)


@router.get("/stage/{case}/{node}", response_class=HTMLResponse)
@router.get("/stages/{case}/{node}", response_class=HTMLResponse)
async def stage(request: Request, case: str, node: str, run: str = "") -> HTMLResponse:
    """One stage of one run, by default of the last run that has it."""
    values = await asyncio.to_thread(_stage, request.app.state.home, case, node, run)
    return request.app.state.page(request, "stage.html", active="Stages", **values)


@router.get("/figure/{case}/{run}/learnt", response_class=HTMLResponse)
async def learnt(request: Request, case: str, run: str) -> HTMLResponse:
    """What a run's transform graph has learnt, as a part of a page; computed once and kept."""
    home = request.app.state.home
    one = await asyncio.to_thread(_found, home, case, run, "TransformGraph")
    path = home / "tour" / f"learnt-{one.id}-{one.folder.name}.json"
    if not path.is_file():
        # Two who ask at once wait for the same process.
        task = working.setdefault(path, asyncio.create_task(_learn(home, case, run, path)))
        task.add_done_callback(lambda _: working.pop(path, None))
        await asyncio.shield(task)
    told = json.loads(await asyncio.to_thread(path.read_text))
    return request.app.state.page(request, "stage_learnt.html", results=told)


@router.get("/report/{case}/{artifact}", response_class=HTMLResponse)
async def report(request: Request, case: str, artifact: int) -> Response:
    """The page that a decision was sent out with, as it is, under a policy that lets it run nothing."""
    found = await asyncio.to_thread(trace.find_producer, local_runtime(request.app.state.home).metadata, artifact)
    made = [one for one in found[1].outputs if one.id == artifact and one.type == "Decision"] if found else []
    if case not in CASES or not made or not (path := made[0].folder / "report.html").is_file():
        raise HTTPException(404, "There is no such report.")
    return HTMLResponse(await asyncio.to_thread(path.read_text), headers={"content-security-policy": REPORT})


async def _learn(home: Path, case: str, run: str, path: Path) -> None:
    """Has another process look at the graph, and keeps what it says."""
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
        out, _ = await asyncio.wait_for(process.communicate(), LEARNT_SECONDS)
    except TimeoutError:
        process.kill()
        raise HTTPException(504, f"TensorFlow did not read the graph within {LEARNT_SECONDS:.0f} s.") from None
    if process.returncode:
        raise HTTPException(500, "TensorFlow could not read the graph; `python -m tour.artifacts.transform` says why.")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{process.pid}")
    beside.write_bytes(out)
    os.replace(beside, path)


def _groups(home: Path) -> list[dict[str, Any]]:
    metadata, found = local_runtime(home).metadata, []
    for case, use_case in CASES.items():
        runs = store.runs(metadata, case)
        last = runs[-1].id if runs else ""
        empty = f"There is no run of {case} yet; `showcase run {case} --home {home}` makes one."
        found.append(
            {
                "title": use_case.title,
                "case": case,
                "run": last,
                "query": False,
                "empty": empty,
                "stages": _listed(metadata, case, last),
            }
        )
        if looks := _looks(home, case):
            found.append(
                {
                    "title": f"{use_case.title}: {WATCHING.lower()}",
                    "case": case,
                    "run": looks[-1],
                    "query": True,
                    "empty": "",
                    "stages": _listed(metadata, case, looks[-1]),
                }
            )
    return found


def _listed(metadata: MetadataAddress, case: str, run: str) -> list[dict[str, str]]:
    ran = trace.executions(metadata, run) if run else []
    return [{"node": one.node, "state": one.state, "sentence": _sentence(one.node, case)} for one in ran]


def _sentence(node: str, case: str) -> str:
    pieces = sources.stage(node, case)
    return pieces[0].sentence if pieces else ""


def _looks(home: Path, case: str) -> list[str]:
    """Ids of the monitoring pipeline's runs."""
    return trace.run_ids(local_runtime(home).metadata, f"{case}-monitor-")


def _runs(home: Path, case: str) -> dict[str, Run | None]:
    """All runs of a case by id, the newest first; a look at the log has no record of its own."""
    if case not in CASES:
        raise HTTPException(404, f"There is no use case '{case[:40]}'.")
    runs = {run.id: run for run in store.runs(local_runtime(home).metadata, case)}
    return dict(reversed([*dict.fromkeys(_looks(home, case)).items(), *runs.items()]))


def _stage(home: Path, case: str, node: str, asked: str) -> dict[str, Any]:
    runs, metadata = _runs(home, case), local_runtime(home).metadata
    if asked and asked not in runs:
        raise HTTPException(404, f"There is no run '{asked[:80]}' of {case}.")
    ran = {name: trace.executions(metadata, name) for name in ([asked] if asked else list(runs)[:RUNS])}
    having = [name for name, found in ran.items() if node in {one.node for one in found}]
    pieces = sources.stage(node, case)
    if not having and not (asked and pieces):
        raise HTTPException(404, f"No run of {case} has a stage '{node[:80]}'.")
    name = having[0] if having else asked
    run, executions = runs[name], ran[name]
    one = next((one for one in executions if one.node == node), Execution(0, node, "not reached", (), ()))
    sight = _sight(case, name, run, executions)
    told = json.loads(sight.facts.get("stages") or "{}").get(node, {})
    return {
        "case": case,
        "node": node,
        "run": name,
        "state": told.get("state", one.state),
        "sentence": pieces[0].sentence if pieces else "",
        "message": told.get("message", ""),
        "facts": _facts(told, sight.facts),
        "strip": executions,
        "judged": not one.outputs,
        "runs": [other for other in runs if ("-monitor-" in other) == ("-monitor-" in name)][:RUNS],
        "artifacts": [_shown(metadata, case, artifact, sight) for artifact in one.outputs or one.inputs],
        "questions": sources.questions(pieces, notes.current()),
        "pieces": pieces,
        "lines": _lines,
        "plain": _plain,
        "counts": _counts,
        "confident": lambda part: json.dumps(part.told),
    }


def _sight(case: str, name: str, run: Run | None, executions: list[Execution]) -> RunContext:
    facts = run.facts | {"reason": run.reason} if run else {}
    outputs = {one.key: one for execution in executions for one in execution.outputs}
    settings = json.loads(facts.get("settings") or "{}")
    return RunContext(case, name, facts, outputs, CASES[case].headline, settings)


def _facts(told: Mapping[str, Any], facts: Mapping[str, str]) -> list[tuple[str, str]]:
    found = []
    if "seconds" in told:
        found.append(("Time", f"{told['seconds']:.1f} s"))
    if told.get("cpu_seconds"):
        found.append(("Of the processors", f"{told['cpu_seconds']:.1f} s"))
    if told.get("peak_mb"):
        found.append(("Memory at most", f"{told['peak_mb']:.0f} MB"))
    for name, key in (("Spans", "spans"), ("Code", "commit"), ("Run started", "started")):
        found += [(name, facts[key])] if facts.get(key) else []
    return found


def _shown(metadata: MetadataAddress, case: str, artifact: Artifact, sight: RunContext) -> dict[str, Any]:
    found = trace.find_producer(metadata, artifact.id)
    page = f"/report/{case}/{artifact.id}" if artifact.type == "Decision" else ""
    return {
        "artifact": artifact,
        "parts": read_parts(artifact, sight),
        "maker": found[0] if found else "",
        "page": page,
        "sources": found[1].inputs if found else (),
    }


def _found(home: Path, case: str, run: str, kind: str) -> Artifact:
    if run not in _runs(home, case):
        raise HTTPException(404, f"There is no run '{run[:80]}' of {case}.")
    for execution in trace.executions(local_runtime(home).metadata, run):
        for one in execution.outputs:
            if one.type == kind and one.folder.is_dir():
                return one
    raise HTTPException(404, f"The run has no {kind}.")


def _lines(piece: sources.Piece) -> Any:
    return highlight.highlight_source(piece, CODE_LINES)


def _plain(part: Part) -> dict[str, Any]:
    """A kind of evidence as the template takes it; long tables are cut."""
    held = render.to_json(part)
    if isinstance(part, Table):
        held["rows"] = held["rows"][:100]
    return held | {"svg": ""}


def _counts(part: Threshold) -> str:
    return curves.to_json(part.told, part.prices)
