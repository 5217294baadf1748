"""A task as a Kubernetes Job."""

from typing import Any

from pipeline.kubeflow.jobs.task_specs import TaskSpec
from pipeline.kubeflow.task import REFUSED

RUN_LABEL = "showcase/run"
TASK_LABEL = "showcase/task"
# The label of Kubeflow's own pods: the network policies and disruption budgets select it.
POD_LABELS = {"pipelines.kubeflow.org/v2_component": "true", "app.kubernetes.io/part-of": "showcase"}
LONGEST_NAME = 63  # of a Job, since its name becomes a label of its pods
KEPT_SECONDS = 7 * 86_400


def make_job(task: TaskSpec, run: str, account: str = "") -> dict[str, Any]:
    """Return the Job of a task, in Kubernetes' form.

    A failed pod is retried as often as the task says. A refusal is not retried, and a pod that is evicted, preempted or
    lost with its node does not count as a failure.

    Args:
        task: The task.
        run: Id of the run; the Job's name is this and the task's name.
        account: Service account of the pod; empty for the namespace's default.

    Raises:
        ValueError: if the name is too long for Kubernetes.
    """
    name = f"{run}-{task.name}"
    if len(name) > LONGEST_NAME:
        raise ValueError(
            f"The name {name} has {len(name)} characters; Kubernetes takes {LONGEST_NAME}. Shorten the run's id."
        )
    labels = {RUN_LABEL: run, TASK_LABEL: task.name}
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": dict(task.security_context),
        "containers": [dict(task.container)],
        "volumes": [dict(volume) for volume in task.volumes],
    }
    pod |= {"nodeSelector": dict(task.node_selector)} if task.node_selector else {}
    pod |= {"serviceAccountName": account} if account else {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "backoffLimit": task.retries,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "FailJob",
                        "onExitCodes": {"containerName": "main", "operator": "In", "values": [REFUSED]},
                    },
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                ]
            },
            "template": {"metadata": {"labels": labels | POD_LABELS}, "spec": pod},
        },
    }
