"""One process of a training cluster: ``python -m models.worker JOB.json``, its place told by ``TF_CONFIG``.

This machine's launcher starts it several times; on a cluster each pod starts it once.
"""

import socket
import sys
from pathlib import Path

from models.errors import Preempted
from models.strategies import Task

PREEMPTED = 42
UNBOUND = 43
WRONG = 44


def main(arguments: list[str]) -> int:
    """Runs the task to its end.

    Returns:
        0 when done, ``PREEMPTED`` after SIGTERM with a checkpoint written, ``UNBOUND`` if the address of the task is
        taken, ``WRONG`` if the switches do not go together; other errors are raised.
    """
    task = Task.here()
    if task.cluster and not _free(task.cluster[task.kind][task.index]):
        print(f"{task.kind} {task.index} cannot listen on {task.cluster[task.kind][task.index]}: it is taken.", flush=True)
        return UNBOUND
    job = Path(arguments[0])
    if task.kind == "ps" or (task.kind == "worker" and task.count("ps")):
        _serve(task)
    from models import training

    try:
        training.train(training.Job.read(job))
    except Preempted as stopped:
        print(stopped, flush=True)
        return PREEMPTED
    except ValueError as error:
        print(error, flush=True)
        return WRONG
    return 0


def _serve(task: Task) -> None:
    """Waits for the coordinator's work until it is stopped."""
    import tensorflow as tf

    config = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=max(4, task.count("worker") + 2))
    tf.distribute.Server(
        tf.train.ClusterSpec(dict(task.cluster)), job_name=task.kind, task_index=task.index, protocol="grpc", config=config
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
