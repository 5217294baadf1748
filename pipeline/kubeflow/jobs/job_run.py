"""Run the tasks of a compiled spec as Kubernetes Jobs, each when its upstream tasks have succeeded."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.kubeflow.jobs.manifest import RUN_LABEL, TASK_LABEL, make_job
from pipeline.kubeflow.jobs.task_specs import TaskSpec
from pipeline.kubeflow.task import REFUSED

PERIOD = 2.0  # seconds between two looks at the Jobs
ENDED = ("done", "refused", "failed")


@dataclass(frozen=True)
class TaskStatus:
    """State of a task: waiting, pending, running, done, refused or failed, and what is known about it."""

    state: str
    message: str = ""


class ClusterError(OSError):
    """The cluster refused a request, or does not answer."""


class JobsClient:
    """The Jobs of one run in one namespace, by Kubernetes' official client.

    Args:
        namespace: Namespace of the Jobs.
        run: Id of the run.
        context: Context of the kubeconfig file; empty for the current one.

    Raises:
        ClusterError: if there is no valid kubeconfig file.
    """

    def __init__(self, namespace: str, run: str, context: str = "") -> None:
        from kubernetes.client import BatchV1Api, CoreV1Api
        from kubernetes.config import ConfigException, load_kube_config

        try:
            load_kube_config(os.environ.get("KUBECONFIG"), context or None)
        except ConfigException as error:
            raise ClusterError(f"No cluster is configured ({error}); set KUBECONFIG to your cluster's file.") from None
        self._namespace, self._selector = namespace, f"{RUN_LABEL}={run}"
        self._batch, self._core = BatchV1Api(), CoreV1Api()

    def create(self, job: Mapping[str, Any]) -> None:
        """Create a Job; one that exists already is left as it is."""
        self._call(self._batch.create_namespaced_job, self._namespace, dict(job), accepted=(409,))

    def jobs(self) -> dict[str, dict[str, Any]]:
        """Return the run's Jobs, in Kubernetes' form, by the name of their task."""
        listed = self._list(self._batch.list_namespaced_job)
        return {job["metadata"]["labels"][TASK_LABEL]: job for job in listed}

    def pods(self) -> dict[str, list[dict[str, Any]]]:
        """Return the run's pods, in Kubernetes' form, by the name of their task, the oldest first."""
        pods: dict[str, list[dict[str, Any]]] = {}
        for pod in sorted(
            self._list(self._core.list_namespaced_pod), key=lambda pod: pod["metadata"]["creationTimestamp"]
        ):
            pods.setdefault(pod["metadata"]["labels"][TASK_LABEL], []).append(pod)
        return pods

    def log(self, pod: Mapping[str, Any]) -> str:
        """Return the log of a pod; empty if it has none."""
        read = self._core.read_namespaced_pod_log
        return self._call(read, pod["metadata"]["name"], self._namespace, accepted=(400, 404)).decode(errors="replace")

    def delete(self, job: Mapping[str, Any]) -> None:
        """Delete a Job and its pods."""
        name, policy = job["metadata"]["name"], "Foreground"
        self._call(self._batch.delete_namespaced_job, name, self._namespace, propagation_policy=policy, accepted=(404,))

    def _list(self, method: Callable[..., Any]) -> list[dict[str, Any]]:
        return json.loads(self._call(method, self._namespace, label_selector=self._selector))["items"]

    def _call(self, method: Callable[..., Any], *arguments: Any, accepted: Sequence[int] = (), **options: Any) -> bytes:
        """Return the body of the answer as it is: the client's classes refuse some values that the API server returns."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return method(*arguments, **options, _preload_content=False).data
        except ApiException as error:
            if error.status in accepted:
                return b""
            raise ClusterError(f"Kubernetes answered {error.status} {error.reason}: {error.body}") from None
        except HTTPError as error:
            raise ClusterError(f"Kubernetes does not answer ({type(error).__name__}); check KUBECONFIG.") from None


@dataclass(frozen=True)
class JobRun:
    """A run of Jobs.

    Attributes:
        cluster: Where the Jobs run.
        run: Id of the run.
        tasks: The tasks in any order.
        account: Service account of the pods; empty for the namespace's default.
        placement_seconds: How long a pod may wait for a machine before its task fails.
        logs: Folder for the logs of ended tasks.
    """

    cluster: JobsClient
    run: str
    tasks: Sequence[TaskSpec]
    account: str
    placement_seconds: float
    logs: Path

    def execute(self, report: Callable[[Mapping[str, TaskStatus]], None]) -> Mapping[str, TaskStatus]:
        """Start every task when its upstream tasks are done, until all are done or one has failed; return their states.

        Tasks that run when another one fails run on to their end, as in Kubeflow. Jobs of an earlier call with the same
        run are used: what is done stays done, what runs is waited for, what failed is started again.

        Raises:
            ClusterError: if the cluster refuses a request or does not answer.
        """
        for job in self.cluster.jobs().values():
            if _condition(job, "Failed"):
                self._restart(job)
        statuses = {task.name: TaskStatus("waiting") for task in self.tasks}
        while True:
            statuses = self._look(statuses)
            report(statuses)
            is_failing = any(status.state in ("refused", "failed") for status in statuses.values())
            ready = [] if is_failing else [task for task in self.tasks if self._is_ready(task, statuses)]
            for task in ready:
                self.cluster.create(make_job(task, self.run, self.account))
            is_active = any(status.state in ("pending", "running") for status in statuses.values())
            if not ready and not is_active:
                return statuses
            time.sleep(PERIOD)

    def cancel(self) -> int:
        """Delete the run's Jobs and their pods; return how many there were."""
        jobs = self.cluster.jobs().values()
        for job in jobs:
            self.cluster.delete(job)
        return len(jobs)

    def _restart(self, job: Mapping[str, Any]) -> None:
        """Delete a failed Job and wait until it is gone, so that a new one can take its name."""
        self.cluster.delete(job)
        while job["metadata"]["labels"][TASK_LABEL] in self.cluster.jobs():
            time.sleep(PERIOD)

    def _is_ready(self, task: TaskSpec, statuses: Mapping[str, TaskStatus]) -> bool:
        return statuses[task.name].state == "waiting" and all(statuses[name].state == "done" for name in task.upstream)

    def _look(self, previous: Mapping[str, TaskStatus]) -> dict[str, TaskStatus]:
        """Return the state of every task; one that has ended keeps its state, whatever becomes of its Job."""
        jobs, pods = self.cluster.jobs(), self.cluster.pods()
        statuses = dict(previous)
        for task in self.tasks:
            job, task_pods = jobs.get(task.name), pods.get(task.name, [])
            if job and previous[task.name].state not in ENDED:
                statuses[task.name] = self._status(job, task_pods)
                if statuses[task.name].state in ENDED and task_pods:
                    self._store_log(task, task_pods[-1])
        return statuses

    def _status(self, job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> TaskStatus:
        if _condition(job, "Complete"):
            return TaskStatus("done")
        codes = [code for pod in pods if (code := _exit_code(pod)) is not None]
        if failure := _condition(job, "Failed"):
            state = "refused" if codes and codes[-1] == REFUSED else "failed"
            return TaskStatus(state, f"exit code {codes[-1]}" if codes else failure.get("message") or failure["reason"])
        if pods and pods[-1]["status"]["phase"] == "Pending":
            return self._pending_status(job, pods[-1])
        return TaskStatus("running", f"attempt {len(codes) + 1}" if codes else "")

    def _pending_status(self, job: Mapping[str, Any], pod: Mapping[str, Any]) -> TaskStatus:
        """Return the state of a pod without a machine; a wait that is too long deletes the Job and fails the task."""
        conditions = {entry["type"]: entry for entry in pod["status"].get("conditions", ())}
        placement = conditions.get("PodScheduled")
        if placement is None or placement["status"] == "True":
            return TaskStatus("pending", "its image is loaded")
        created = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
        waited = time.time() - created.timestamp()
        if waited < self.placement_seconds:
            return TaskStatus("pending", placement.get("message", ""))
        self.cluster.delete(job)
        return TaskStatus("failed", f"no machine could take it for {waited:.0f} s: {placement.get('message', '')}")

    def _store_log(self, task: TaskSpec, pod: Mapping[str, Any]) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        (self.logs / f"{task.title}.log").write_text(self.cluster.log(pod))


def _condition(job: Mapping[str, Any], kind: str) -> dict[str, Any] | None:
    conditions = job.get("status", {}).get("conditions", ())
    return next((entry for entry in conditions if entry["type"] == kind and entry["status"] == "True"), None)


def _exit_code(pod: Mapping[str, Any]) -> int | None:
    for status in pod["status"].get("containerStatuses", ()):
        if ended := status["state"].get("terminated"):
            return ended["exitCode"]
    return None
