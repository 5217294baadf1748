"""One process of a training cluster: ``python -m models.training.worker JOB.json``; ``TF_CONFIG`` gives its task.

On one machine the launcher starts several of them. On a cluster each pod starts one, with ``--export FOLDER``, since
there is no launcher that exports the trained model.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from models import default_settings
from models.errors import PreemptedError
from models.training.distribute.job import (
    ADDRESS_IN_USE,
    INVALID_SETTINGS,
    PREEMPTED,
    ClusterTask,
    TrainingJob,
    build_tf_config,
)


def main(arguments: list[str]) -> int:
    """Run the task to its end.

    Returns:
        The exit code: 0 when done, ``PREEMPTED`` after SIGTERM with a checkpoint written, ``ADDRESS_IN_USE`` if the task's
        address is in use, ``INVALID_SETTINGS`` if the settings are not compatible. Other errors are raised.
    """
    options = build_parser().parse_args(arguments)
    if options.finish:
        return _finish(options.job, options.finish)
    os.environ.update(build_tf_config(os.environ))
    task = ClusterTask.from_environment()
    if options.export:
        return _train_and_export(options, task.chief)
    if task.cluster and not _is_free(task.cluster[task.kind][task.index]):
        print(
            f"{task.kind} {task.index} cannot listen on {task.cluster[task.kind][task.index]}: the address is in use.",
            flush=True,
        )
        return ADDRESS_IN_USE
    if task.kind == "ps" or (task.kind == "worker" and task.count("ps")):
        _run_server(task)
    try:
        job = TrainingJob.read(options.job)
        default_settings.check_settings(job.settings)
        from models.training import entry_point  # the import takes seconds; errors in the job are reported before it

        entry_point.train(job)
    except PreemptedError as preemption:
        print(preemption, flush=True)
        return PREEMPTED
    except ValueError as error:
        print(error, flush=True)
        return INVALID_SETTINGS
    return 0


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models.training.worker")
    parser.add_argument("job", type=Path, help="JSON file of the training job")
    parser.add_argument("--export", type=Path, help="folder to which the chief writes the model and its record")
    parser.add_argument("--finish", type=Path, help=argparse.SUPPRESS)
    return parser


def _train_and_export(options: argparse.Namespace, chief: bool) -> int:
    """Train in one process, then export in another on the chief: a process whose peers have exited is aborted."""
    command = [sys.executable, "-m", "models.training.worker", str(options.job)]
    with subprocess.Popen(command) as child:
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        code = child.wait()
    if code or not chief:
        return code
    environment = {
        name: value for name, value in os.environ.items() if name not in ("TF_CONFIG", "JOB_COMPLETION_INDEX")
    }
    return subprocess.run([*command, "--finish", str(options.export)], env=environment, check=False).returncode


def _finish(path: Path, folder: Path) -> int:
    """Export the model that a cluster trained: ``model`` and ``run`` in the folder."""
    from models.training import entry_point

    job = TrainingJob.read(path)
    entry_point.finish(job, entry_point.TrainingData.of(job), folder / "model", folder / "run")
    print(f"exported to {folder / 'model'}", flush=True)
    return 0


def _run_server(task: ClusterTask) -> None:
    """Serve the coordinator's requests until the process is stopped."""
    import tensorflow as tf

    config = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=max(4, task.count("worker") + 2))
    tf.distribute.Server(
        tf.train.ClusterSpec(dict(task.cluster or {})),
        job_name=task.kind,
        task_index=task.index,
        protocol="grpc",
        config=config,
    ).join()


def _is_free(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("" if host not in ("localhost", "127.0.0.1") else host, int(port)))
        except OSError:
            return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
