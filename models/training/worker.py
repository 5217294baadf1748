"""One process of a training cluster: ``python -m models.training.worker JOB.json``, its place told by ``TF_CONFIG``.

This machine's launcher starts it several times; on a cluster each pod starts it once, with ``--export FOLDER``, since there no
launcher exports what the chief has learnt.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from models import default_settings
from models.errors import Preempted
from models.training.distribute.job import PREEMPTED, UNBOUND, WRONG, Job, Task, build_tf_config


def main(arguments: list[str]) -> int:
    """Runs the task to its end.

    Returns:
        0 when done, ``PREEMPTED`` after SIGTERM with a checkpoint written, ``UNBOUND`` if the address of the task is
        taken, ``WRONG`` if the switches do not go together; other errors are raised.
    """
    told = parser().parse_args(arguments)
    if told.finish:
        return _finish(told.job, told.finish)
    os.environ.update(build_tf_config(os.environ))
    task = Task.here()
    if told.export:
        return _exported(told, task.chief)
    if task.cluster and not _free(task.cluster[task.kind][task.index]):
        print(
            f"{task.kind} {task.index} cannot listen on {task.cluster[task.kind][task.index]}: it is taken.", flush=True
        )
        return UNBOUND
    if task.kind == "ps" or (task.kind == "worker" and task.count("ps")):
        _serve(task)
    try:
        job = Job.read(told.job)
        default_settings.check(job.settings)
        from models.training import entry_point  # takes seconds; errors in the job are reported before

        entry_point.train(job)
    except Preempted as stopped:
        print(stopped, flush=True)
        return PREEMPTED
    except ValueError as error:
        print(error, flush=True)
        return WRONG
    return 0


def parser() -> argparse.ArgumentParser:
    """The program's words."""
    words = argparse.ArgumentParser(prog="python -m models.training.worker")
    words.add_argument("job", type=Path, help="file of a training job")
    words.add_argument("--export", type=Path, help="folder in which the chief leaves the model and its record")
    words.add_argument("--finish", type=Path, help=argparse.SUPPRESS)
    return words


def _exported(told: argparse.Namespace, chief: bool) -> int:
    """Trains in a process of its own, then has the chief export in another: who stays when others leave is aborted."""
    command = [sys.executable, "-m", "models.training.worker", str(told.job)]
    with subprocess.Popen(command) as child:
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        code = child.wait()
    if code or not chief:
        return code
    alone = {name: value for name, value in os.environ.items() if name not in ("TF_CONFIG", "JOB_COMPLETION_INDEX")}
    return subprocess.run([*command, "--finish", str(told.export)], env=alone, check=False).returncode


def _finish(path: Path, folder: Path) -> int:
    """Exports what a cluster has learnt: ``model`` and ``run`` in the folder."""
    from models.training import entry_point

    job = Job.read(path)
    entry_point.finish(job, entry_point.Data.of(job), folder / "model", folder / "run")
    print(f"exported to {folder / 'model'}", flush=True)
    return 0


def _serve(task: Task) -> None:
    """Waits for the coordinator's work until it is stopped."""
    import tensorflow as tf

    config = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=max(4, task.count("worker") + 2))
    tf.distribute.Server(
        tf.train.ClusterSpec(dict(task.cluster or {})),
        job_name=task.kind,
        task_index=task.index,
        protocol="grpc",
        config=config,
    ).join()


def _free(address: str) -> bool:
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
