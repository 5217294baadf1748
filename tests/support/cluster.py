"""A real cluster: kubectl as a person would use it, pods that are killed, and a client in a pod of its own."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.command import ROOT
from support.programs import needs

VARIABLE = "SHOWCASE_CLUSTER"
NAMESPACE = "kubeflow"  # that of the overlay `laptop`
CLIENTS = "applications"  # a namespace that may send requests to the gateway
# It opens a new connection for each request, so that the Service routes each one, and prints a line of JSON per request.
CLIENT = """
import json, time, urllib.request
pixels = [[16 * (row + column) for column in range(8)] for row in range(8)]
for number in range(1_000_000):
    body = json.dumps({"pixels": pixels, "key": f"client-{time.time_ns()}"}).encode()
    request = urllib.request.Request("http://gateway.%s/v1/image/score", body, {"content-type": "application/json"})
    line = {"time": time.time()}
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            answer = json.load(response)
            line |= {"id": answer["prediction_id"], "version": answer["version"]}
    except Exception as error:
        line |= {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(line), flush=True)
    time.sleep(0.1)
"""


@dataclass(frozen=True)
class Answers:
    """What a client got.

    Attributes:
        ids: Prediction ids of the answers.
        versions: Versions that answered.
        errors: One line for each request without an answer.
    """

    ids: Sequence[str]
    versions: frozenset[str]
    errors: Sequence[str]


@dataclass(frozen=True)
class Cluster:
    """A running cluster.

    Attributes:
        kubeconfig: Its kubeconfig file.
    """

    kubeconfig: Path

    @property
    def is_local(self) -> bool:
        """Whether the node's processes are this machine's, as with `make cluster`."""
        return self.kubeconfig == ROOT / ".tools" / "cluster" / "kubeconfig"

    @property
    def environment(self) -> dict[str, str]:
        """Environment of a command that uses this cluster."""
        return os.environ | {"KUBECONFIG": str(self.kubeconfig), "NAMESPACE": NAMESPACE}

    def kubectl(self, *words: object, namespace: str = NAMESPACE, objects: Sequence[Any] = ()) -> str:
        """Run kubectl, with objects on its standard input if there are any; return its output; a failure fails the test."""
        result = self.try_kubectl(*words, namespace=namespace, objects=objects)
        assert result.returncode == 0, f"kubectl {' '.join(map(str, words))}: {result.stderr}{result.stdout}"
        return result.stdout

    def try_kubectl(
        self, *words: object, namespace: str = NAMESPACE, objects: Sequence[Any] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl and return its result, whatever it is."""
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}) if objects else None
        command = [needs("kubectl"), "--namespace", namespace, *map(str, words)]
        return subprocess.run(
            command, input=document, capture_output=True, text=True, timeout=900, env=self.environment, cwd=ROOT
        )

    def exec(self, target: str, *command: object) -> str:
        """Run a command in a container; return its output."""
        return self.kubectl("exec", target, "--", *command)

    def pods(self, selector: str = "app.kubernetes.io/part-of=showcase") -> list[dict[str, Any]]:
        """Return pods that are not being deleted, in Kubernetes' form."""
        pods = json.loads(self.kubectl("get", "pods", "--selector", selector, "--output", "json"))["items"]
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def restarts(self) -> dict[str, int]:
        """Return how often each of our servers' containers was restarted, by the name of its pod."""
        return {
            pod["metadata"]["name"]: sum(
                status["restartCount"] for status in pod["status"].get("containerStatuses", ())
            )
            for pod in self.pods("app.kubernetes.io/part-of=showcase,!showcase/run")
        }

    def wait_for(self, kind: str, timeout: int = 300) -> None:
        """Wait until a Deployment or StatefulSet has all its pods ready."""
        result = self.try_kubectl("rollout", "status", kind, "--timeout", f"{timeout}s")
        events = "" if not result.returncode else self.kubectl("get", "events", "--sort-by", ".lastTimestamp")
        assert not result.returncode, f"{kind}: {result.stderr}{events[-3000:]}"

    def kill(self, pod: dict[str, Any]) -> None:
        """Send SIGKILL to every process of a pod's container; on another machine's node delete the pod without grace."""
        if not self.is_local:
            self.kubectl("delete", "pod", pod["metadata"]["name"], "--grace-period", 0, "--force")
            return
        for status in pod["status"]["containerStatuses"]:
            identity = status.get("containerID", "none").rpartition("/")[2]
            for process in _find_processes(identity):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)

    @contextlib.contextmanager
    def client(self) -> Iterator[Callable[[], Answers]]:
        """Run a client that sends ten requests a second; yield a function that returns what it got so far."""
        self.try_kubectl("create", "namespace", CLIENTS)
        self.kubectl("label", "--overwrite", "namespace", CLIENTS, "showcase/client=true")
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "client", "namespace": CLIENTS},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 0,
                "containers": [
                    {
                        "name": "client",
                        "image": read_image(),
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["python", "-c", CLIENT % NAMESPACE],
                    }
                ],
            },
        }
        self.kubectl("apply", "--filename", "-", namespace=CLIENTS, objects=[pod])
        try:
            self.kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout", "120s", namespace=CLIENTS)
            wait_until(lambda: self._read_answers().ids or self._read_answers().errors, 60)
            yield self._read_answers
        finally:
            self.kubectl("delete", "pod", "client", namespace=CLIENTS)

    def _read_answers(self) -> Answers:
        text = self.kubectl("logs", "client", namespace=CLIENTS)
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]
        return Answers(
            ids=[line["id"] for line in lines if "id" in line],
            versions=frozenset(str(line["version"]) for line in lines if "id" in line),
            errors=[f"{line['time']:.1f} {line['error']}" for line in lines if "error" in line],
        )

    def read_logged_ids(self) -> set[str]:
        """Return the prediction ids in the log of the image case, read in the gateway's pod."""
        program = (
            "from pathlib import Path; import re, sys; from serving.gateway.log.log_files import read_log\n"
            "for _, data in read_log(Path('/showcase/image/online/predictions')):\n"
            "    print(*(word.decode() for word in re.findall(rb'image\\.[-\\w.]+', data)))"
        )
        return set(self.exec("gateway-0", "python", "-c", program).split())


def find_cluster() -> Cluster:
    """Return the cluster that `make cluster-test` names; skip without it."""
    if not os.environ.get(VARIABLE):
        pytest.skip("These tests change a cluster, so they run only by make cluster-test.")
    return Cluster(Path(os.environ[VARIABLE]))


def read_image() -> str:
    """Return the name of our image, as the pipeline's settings have it."""
    text = (ROOT / "kubernetes" / "overlays" / "laptop" / "pipeline.toml").read_text()
    return re.findall(r'^image = "(.*)"', text, re.MULTILINE)[0]


def wait_until(is_true: Callable[[], object], seconds: float, period: float = 1.0) -> None:
    """Wait until a function returns something true; after the given time fail the test."""
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, f"not true after {seconds:.0f} s"
        time.sleep(period)


def _find_processes(container: str) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        with contextlib.suppress(OSError):
            if container in path.read_text():
                yield int(path.parent.name)
