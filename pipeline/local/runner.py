"""Run the compiled graph on this machine: one process per stage, independent stages in parallel, every stage resumable."""

import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import TracebackType

from absl import flags
from tfx.dsl.compiler import compiler, constants
from tfx.orchestration import metadata
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import runtime_parameter_utils
from tfx.proto.orchestration import pipeline_pb2

from models.errors import DataError, GateError
from models.training.distribute.local_processes import end_with_parent
from pipeline import cache_key
from pipeline.local.bucket_launcher import BucketLauncher
from pipeline.local.progress import Progress, Report
from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress
from pipeline.metadata.uri_store import UriStore
from pipeline.runtime import Runtime
from pipeline.stages import Stage
from serving import bucket, bucket_folders

GRACE = 30.0  # seconds for stages to save a checkpoint when the run is stopped


class LockedMetadata(metadata.Metadata):
    """A metadata connection under a lock: SQLite allows one writer, and stages run in parallel."""

    def __init__(self, address: MetadataAddress):
        super().__init__(address.connection())
        self._address = address

    def __enter__(self) -> "LockedMetadata":
        self._turn = store.write_lock(self._address.file)
        self._turn.__enter__()
        super().__enter__()
        self._store = UriStore(self.store)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._turn.__exit__(kind, error, trace)


def compile_graph(
    stages: list[Stage], case: str, runtime: Runtime, run_id: str, salt: str = ""
) -> pipeline_pb2.Pipeline:
    """Compile the graph to TFX's intermediate representation, with the run id and each node's code digest as parameters.

    Args:
        salt: Appended to every digest; a new salt makes every stage run again.
    """
    pipeline = tfx_pipeline.Pipeline(
        pipeline_name=case,
        pipeline_root=str(runtime.case(case).artifacts),
        components=[stage.node for stage in stages],
        enable_cache=True,
        metadata_connection_config=runtime.metadata.connection(),
        beam_pipeline_args=list(runtime.beam_args),
    )
    ir = compiler.Compiler().compile(pipeline)
    runtime_parameter_utils.substitute_runtime_parameter(ir, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id})
    cache_key.add_code_digests(ir, {stage.node.id: stage.modules for stage in stages}, salt)
    return ir


def run(ir: pipeline_pb2.Pipeline, runtime: Runtime, logs: Path, report: Report) -> dict[str, Progress]:
    """Run every node whose upstream nodes have finished; descendants of a failed node stay in the state waiting.

    Args:
        ir: The compiled graph.
        runtime: Address of the metadata store and the number of stages that run in parallel.
        logs: Folder for one log file per stage.
        report: Called several times a second with every stage's progress.
    """
    nodes = {node.pipeline_node.node_info.id: node.pipeline_node for node in ir.nodes}
    progress = {name: Progress() for name in nodes}
    running: dict[int, tuple[str, Path]] = {}
    logs.mkdir(parents=True, exist_ok=True)
    try:
        while True:
            ready = [name for name in nodes if _ready(nodes[name], progress)]
            for name in ready[: runtime.workers - len(running)]:
                running[_start(ir, name, runtime, logs)] = (name, logs / f"{name}.json")
                progress[name] = Progress("running", started=time.monotonic())
            if not running:
                return progress
            _collect(running, progress)
            report(progress)
            time.sleep(0.05)
    finally:
        _stop(running)


def launch(ir: pipeline_pb2.Pipeline, name: str, address: MetadataAddress) -> str:
    """Run one node in this process; return its state, done or cached.

    Raises:
        RuntimeError: if the launcher returned without a finished execution; it does so silently if inputs are missing.
    """
    node = next(n.pipeline_node for n in ir.nodes if n.pipeline_node.node_info.id == name)
    # Batches of up to 20 MiB or 8,192 rows instead of at most 1,000: fewer calls between Python and C++.
    flags.FLAGS(["showcase", "--tfxio_use_byte_size_batching"])
    deployment = runner_utils.extract_local_deployment_config(ir)
    _sweep(ir, name, address)
    info = BucketLauncher(
        pipeline_node=node,
        mlmd_connection=LockedMetadata(address),
        pipeline_info=ir.pipeline_info,
        pipeline_runtime_spec=ir.runtime_spec,
        executor_spec=runner_utils.extract_executor_spec(deployment, name),
        custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, name),
    ).launch()
    state = store.execution_state(address, info.execution_id) if info else "missing"
    if state not in ("done", "cached"):
        raise RuntimeError(f"{name} did not run: its inputs are missing.")
    return state


def _stop(running: dict[int, tuple[str, Path]]) -> None:
    """Send SIGTERM to the stages, on which training saves a checkpoint; kill those still alive after ``GRACE`` seconds."""
    for pid in running:
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    while running:
        for pid in list(running):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            if os.waitpid(pid, 0 if time.monotonic() > deadline else os.WNOHANG)[0]:
                shutil.rmtree(_scratch(running.pop(pid)[1]), ignore_errors=True)
        time.sleep(0.05)


def _ready(node: pipeline_pb2.PipelineNode, progress: dict[str, Progress]) -> bool:
    is_upstream_done = all(progress[name].state in ("done", "cached") for name in node.upstream_nodes)
    return is_upstream_done and progress[node.node_info.id].state == "waiting"


def _start(ir: pipeline_pb2.Pipeline, name: str, runtime: Runtime, logs: Path) -> int:
    """Fork a process for a stage: TensorFlow and TFX are imported but not initialised, so a stage starts at once."""
    (logs / f"{name}.json").unlink(missing_ok=True)  # result of an earlier attempt
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    result = {"state": "failed", "message": ""}
    try:
        # A stage must not outlive the run: a stage of a killed run would write while the resumed run does.
        end_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        descriptor = os.open(logs / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        scratch = _scratch(logs / f"{name}.json")
        scratch.mkdir(exist_ok=True)
        tempfile.tempdir = os.environ["TMPDIR"] = str(scratch)
        result = {"state": launch(ir, name, runtime.metadata), "message": ""}
    except BaseException as error:
        traceback.print_exc()
        result = describe_failure(error)
    finally:
        (logs / f"{name}.json").write_text(json.dumps(result))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def describe_failure(error: BaseException) -> dict[str, str]:
    """Return the state and message of a failure; a refusal or a data error may be wrapped in Beam's exceptions."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    for link in chain:
        if isinstance(link, GateError | DataError):
            state = "refused" if isinstance(link, GateError) else "failed"
            return {"state": state, "message": str(link)}
    lines = [line for line in str(chain[0]).splitlines() if line.strip()] or [type(chain[0]).__name__]
    return {"state": "failed", "message": f"{type(chain[0]).__name__}: {lines[0]}"}


def _collect(running: dict[int, tuple[str, Path]], progress: dict[str, Progress]) -> None:
    for pid, (name, result) in list(running.items()):
        progress[name].seconds = time.monotonic() - progress[name].started
        ended_pid, status, usage = os.wait4(pid, os.WNOHANG)
        if not ended_pid:
            progress[name].message = _training_progress(result.with_suffix(".log"))
            continue
        del running[pid]
        shutil.rmtree(_scratch(result), ignore_errors=True)
        progress[name].cpu_seconds = usage.ru_utime + usage.ru_stime
        progress[name].peak_mb = usage.ru_maxrss / 1024
        if status or not result.exists():
            progress[name].state, progress[name].message = "failed", f"the process ended with status {status}"
        else:
            report = json.loads(result.read_text())
            progress[name].state, progress[name].message = report["state"], report["message"]


def _scratch(result: Path) -> Path:
    """Folder for a stage's temporary files; a stage exits without atexit handlers, so the run deletes the folder."""
    return result.with_suffix(".tmp")


def _training_progress(log: Path) -> str:
    """Return the last line of a stage's log if it reports training progress, else an empty text."""
    if not log.exists():
        return ""
    with log.open("rb") as lines:
        lines.seek(max(0, log.stat().st_size - 400))
        last = lines.read().decode(errors="replace").strip().rpartition("\n")[2]
    return last if last.startswith("epoch ") else ""


def _sweep(ir: pipeline_pb2.Pipeline, name: str, address: MetadataAddress) -> None:
    """Delete outputs of killed attempts of this node in this run; their shards would be read with the new ones."""
    run_id = ir.runtime_spec.pipeline_run_id.field_value.string_value
    for execution_id in store.find_unfinished_executions(address, run_id, name):
        node_folder = Path(ir.runtime_spec.pipeline_root.field_value.string_value, name)
        for folder in node_folder.glob(f"*/{execution_id}"):
            shutil.rmtree(folder, ignore_errors=True)
        for output in bucket.list_names(node_folder):
            bucket_folders.delete(node_folder / output / str(execution_id))
