"""What of a run goes to the experiment tracker, and how it gets there without the run having to wait or to fail.

MLflow takes seconds to import. So a process of its own (:mod:`pipeline.tracking.mlflow_process`) does that, and makes the
store, while the stages run; at the end it is handed the record. Whatever goes wrong there, be it no server, a full disk or
a broken file, becomes one sentence among the run's facts, and the run is as good as without it.

Question: B28
Answer: Without a log nobody can say which settings, data and code made the good model. It has to happen unasked: every
    run here that trained or was refused goes to MLflow with all parameters, metrics, loss curves, data digest, commit,
    lock, strategy and a link to the model; TFX's metadata keeps the lineage. So runs are compared, not remembered.
    Tracking may be late or missing, but must never fail a run.
Evidence: tour.evidence.experiment_tracking.runs_compared
Proof: tests/pipeline/tracking/test_recording.py::test_a_run_comes_back_with_all_that_was_recorded
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.checkout import ROOT
from pipeline.metadata import store
from pipeline.runtime import Runtime

RUN = "showcase.run"
OFF = "none"
SECONDS = 120
# Two quick tries at a server, and no usage data sent to anyone.
MANNERS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class Tracker:
    """A process that is getting ready to record one run.

    Args:
        runtime: Where the run is and where it is to be recorded.
        log: File for what MLflow says.
    """

    def __init__(self, runtime: Runtime, log: Path):
        self._runtime, self._log, self._process, self._error = runtime, log, None, ""
        if runtime.tracking != OFF:
            try:
                self._process = _started(address(runtime), str(Path(runtime.root, "mlflow")), log)
            except OSError as error:
                self._error = str(error)

    def finish(self, run: store.Run) -> dict[str, str]:
        """Records the run if it is worth it.

        Returns:
            Facts: MLflow's id, or one sentence why there is none; never an error.
        """
        try:
            if self._runtime.tracking == OFF or not worthy(self._runtime, run):
                return {}
            said = {"error": self._error}
            if self._process:
                said = _handed(self._process, json.dumps(record(self._runtime, run)))
        except subprocess.TimeoutExpired:
            said = {"error": f"no answer within {SECONDS} s"}
        except Exception as error:
            said = {"error": f"{type(error).__name__}: {error}"}
        finally:
            self._end()
        where = shown(address(self._runtime))
        if "id" in said:
            return {"mlflow": said["id"], "tracked_at": where, "untracked": ""}
        return {"untracked": f"The run is not recorded in MLflow at {where}: {said['error']} (see {self._log})"}

    def _end(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe:
                    pipe.close()


def _handed(process: subprocess.Popen[str], text: str) -> dict[str, str]:
    answer, _ = process.communicate(text, timeout=SECONDS)
    return json.loads(answer) if answer else {"error": "its process ended without a word"}


def _started(address: str, artifacts: str, log: Path) -> subprocess.Popen[str]:
    """The process; in a session of its own, so that Ctrl-C is the run's to answer. It ends when its input does."""
    log.parent.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with log.open("a") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline.tracking.mlflow_process", artifacts],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": path, "MLFLOW_TRACKING_URI": address},
        )


def address(runtime: Runtime) -> str:
    """Where runs are recorded: the server that was named, or a SQLite file beside the metadata."""
    return runtime.tracking or f"sqlite:///{Path(runtime.root, 'mlflow.sqlite')}"


def shown(address: str) -> str:
    """An address as it may be printed and kept: without the name and password that it may carry."""
    parts = urlsplit(address)
    return address.replace(f"{parts.netloc.rpartition('@')[0]}@", "", 1) if "@" in parts.netloc else address


def worthy(runtime: Runtime, run: store.Run) -> bool:
    """Whether a run is worth a record: it was pushed or refused, or it failed after it had trained."""
    if run.state != "failed":
        return run.state in ("pushed", "refused")
    return bool(_json(_artifacts(runtime, run), "model_run", "training.json"))


def record(runtime: Runtime, run: store.Run) -> dict[str, Any]:
    """Everything about a finished run as plain values, from its facts and artifacts.

    Returns:
        ``experiment``, ``run``, ``status``, ``started`` and ``ended`` (milliseconds), ``params``, ``metrics``, ``curves``
        (a dict an epoch), ``tags`` and ``data`` (name, digest, source).
    """
    artifacts, facts = _artifacts(runtime, run), run.facts
    trained, compared = (
        _json(artifacts, "model_run", "training.json"),
        _json(artifacts, "comparison", "comparison.json"),
    )
    params = {n: v for group in json.loads(facts["settings"]).values() for n, v in group.items()}
    counts = {name: trained[name] for name in ("rows", "steps", "best_epoch", "parameters") if name in trained}
    metrics = counts | json.loads(facts.get("metrics", "{}"))
    metrics |= {f"slice/{name}": value for name, value in json.loads(facts.get("slices", "{}")).items()}
    metrics |= {f"comparison/{row['model']}": row["metric"] for row in compared.get("rows", [])}
    metrics |= {f"seconds/{n}": one["seconds"] for n, one in json.loads(facts.get("stages", "{}")).items()}
    link = facts.get("pushed") or str(artifacts.get("model", ""))
    tags = {
        RUN: run.id,
        "state": run.state,
        "reason": run.reason,
        "fingerprint": run.fingerprint,
        "model": link,
        "data.source": facts["source"],
        "data.spans": facts["spans"],
        "data.version": facts["data_version"],
        "strategy": str(params["strategy"]),
        "weights": trained.get("weights", ""),
        **{name: facts.get(name, "") for name in ("commit", "lock", "libraries", "headline", "comparison", "version")},
    }
    return {
        "experiment": run.case,
        "run": run.id,
        "status": "FAILED" if run.state == "failed" else "FINISHED",
        "started": _milliseconds(facts["started"]),
        "ended": _milliseconds(facts.get("ended", facts["started"])),
        "params": params,
        "metrics": metrics,
        "curves": trained.get("curves", []),
        "tags": tags,
        "data": {"name": f"{run.case} {facts['spans']}", "digest": facts["data_version"], "source": facts["source"]},
    }


def _artifacts(runtime: Runtime, run: store.Run) -> dict[str, Path]:
    """Where each output of the run lies, by its key."""
    found = store.outputs(runtime.metadata, run.id).values()
    return {key: Path(artifact.uri) for outputs in found for key, artifact in outputs.items()}


def _json(artifacts: Mapping[str, Path], key: str, name: str) -> dict[str, Any]:
    path = artifacts.get(key, Path()) / name
    return json.loads(path.read_text()) if path.is_file() else {}


def _milliseconds(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp() * 1000)
