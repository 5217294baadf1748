"""Record runs in the experiment tracker without delaying or failing them.

MLflow takes seconds to import, so a separate process (:mod:`pipeline.tracking.mlflow_process`) imports it and creates the
store while the stages run; at the end it receives the record. Any fault there, such as an unreachable server, a full disk
or a damaged file, becomes one sentence among the run's facts, and the run's result is not affected.

Question: B28
Answer: I track experiments so that I can say which settings, data and code produced a model, and compare runs instead of
    remembering them. Tracking has to be automatic: here every run that trained or was refused goes to MLflow with
    parameters, metrics, loss curves, data digest, commit, lock file, strategy and a link to the model, while TFX's
    metadata keeps the lineage. The trap is coupling: a slow or missing tracker must never fail a run.
Evidence: tour.evidence.experiment_tracking.compare_runs
Proof: tests/pipeline/tracking/test_recording.py::test_recorded_run_is_read_back_completely
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
from pipeline.run import Run
from pipeline.runtime import Runtime
from serving import bucket_folders

RUN_TAG = "showcase.run"
TRACKING_OFF = "none"
TIMEOUT_SECONDS = 120
# Two short attempts to reach a server, and no telemetry.
MLFLOW_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class Tracker:
    """A process that imports MLflow in advance to record one run.

    Args:
        runtime: Location of the run and address of the tracker.
        log: File for MLflow's output.
    """

    def __init__(self, runtime: Runtime, log: Path):
        self._runtime, self._log, self._process, self._error = runtime, log, None, ""
        if runtime.tracking != TRACKING_OFF:
            try:
                self._process = _start_process(tracking_address(runtime), str(Path(runtime.root, "mlflow")), log)
            except OSError as error:
                self._error = str(error)

    def finish(self, run: Run) -> dict[str, str]:
        """Record the run if its state calls for it; never raise an error.

        Returns:
            Facts: MLflow's id and address, or one sentence with the reason why the run is not recorded.
        """
        try:
            if self._runtime.tracking == TRACKING_OFF or not should_record(self._runtime, run):
                return {}
            answer = {"error": self._error}
            if self._process:
                answer = _send_record(self._process, json.dumps(build_record(self._runtime, run)))
        except subprocess.TimeoutExpired:
            answer = {"error": f"no answer within {TIMEOUT_SECONDS} s"}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        finally:
            self._end()
        where = hide_credentials(tracking_address(self._runtime))
        if "id" in answer:
            return {"mlflow": answer["id"], "tracked_at": where, "untracked": ""}
        return {"untracked": f"The run is not recorded in MLflow at {where}: {answer['error']} (see {self._log})"}

    def _end(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe:
                    pipe.close()


def _send_record(process: subprocess.Popen[str], text: str) -> dict[str, str]:
    answer, _ = process.communicate(text, timeout=TIMEOUT_SECONDS)
    return json.loads(answer) if answer else {"error": "its process ended without an answer"}


def _start_process(address: str, artifacts: str, log: Path) -> subprocess.Popen[str]:
    """Start the process in its own session, so that only the run handles Ctrl-C; it exits when its input is closed."""
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


def tracking_address(runtime: Runtime) -> str:
    """Return the tracker's address: the configured server, or a SQLite file next to the metadata store."""
    return runtime.tracking or f"sqlite:///{Path(runtime.root, 'mlflow.sqlite')}"


def hide_credentials(address: str) -> str:
    """Return an address without the user name and password that it may contain, for messages and records."""
    parts = urlsplit(address)
    return address.replace(f"{parts.netloc.rpartition('@')[0]}@", "", 1) if "@" in parts.netloc else address


def should_record(runtime: Runtime, run: Run) -> bool:
    """Whether a run is recorded: it was pushed or refused, or it failed after training."""
    if run.state != "failed":
        return run.state in ("pushed", "refused")
    return bool(_json(_artifacts(runtime, run), "model_run", "training.json"))


def build_record(runtime: Runtime, run: Run) -> dict[str, Any]:
    """Build the record of a finished run as plain values, from its facts and artifacts.

    Returns:
        ``experiment``, ``run``, ``status``, ``started`` and ``ended`` (milliseconds), ``params``, ``metrics``, ``curves``
        (one dict per epoch), ``tags`` and ``data`` (name, digest, source).
    """
    artifacts, facts = _artifacts(runtime, run), run.facts
    training_report, comparison_report = (
        _json(artifacts, "model_run", "training.json"),
        _json(artifacts, "comparison", "comparison.json"),
    )
    params = {key: v for group in json.loads(facts["settings"]).values() for key, v in group.items()}
    counts = {
        name: training_report[name] for name in ("rows", "steps", "best_epoch", "parameters") if name in training_report
    }
    metrics = counts | json.loads(facts.get("metrics", "{}"))
    metrics |= {f"slice/{name}": value for name, value in json.loads(facts.get("slices", "{}")).items()}
    metrics |= {f"comparison/{row['model']}": row["metric"] for row in comparison_report.get("rows", [])}
    metrics |= {f"seconds/{key}": stage["seconds"] for key, stage in json.loads(facts.get("stages", "{}")).items()}
    link = facts.get("pushed") or str(artifacts.get("model", ""))
    tags = {
        RUN_TAG: run.id,
        "state": run.state,
        "reason": run.reason,
        "fingerprint": run.fingerprint,
        "model": link,
        "data.source": facts["source"],
        "data.spans": facts["spans"],
        "data.version": facts["data_version"],
        "strategy": str(params["strategy"]),
        "weights": training_report.get("weights", ""),
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
        "curves": training_report.get("curves", []),
        "tags": tags,
        "data": {"name": f"{run.case} {facts['spans']}", "digest": facts["data_version"], "source": facts["source"]},
    }


def _artifacts(runtime: Runtime, run: Run) -> dict[str, Path]:
    """Return the folder of every output of the run, by output key."""
    outputs_by_stage = store.outputs(runtime.metadata, run.id).values()
    return {key: Path(artifact.uri) for outputs in outputs_by_stage for key, artifact in outputs.items()}


def _json(artifacts: Mapping[str, Path], key: str, name: str) -> dict[str, Any]:
    folder = artifacts.get(key, Path())
    bucket_folders.pull(folder)
    path = folder / name
    return json.loads(path.read_text()) if path.is_file() else {}


def _milliseconds(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp() * 1000)
