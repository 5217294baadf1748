"""The first process of the node's namespaces: network, mounts, containerd and Kubernetes. `cluster.py` starts it.

Where this process ends, for whatever reason, the kernel ends all others of its namespaces and removes their mounts.
"""

import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from node_files import (
    API,
    CNI_CACHE,
    FIRST_SERVICE,
    NODE,
    PODS,
    SERVICES,
    create_certificate,
    run,
    write_containerd_settings,
    write_kubeconfig,
    write_kubelet_settings,
)

USERS = {
    "admin": "admin,admin,system:masters",
    "kubelet": "system:node:node,node,system:nodes",
    "kube-scheduler": "system:kube-scheduler,scheduler",
    "kube-controller-manager": "system:kube-controller-manager,manager",
    "kube-proxy": "system:kube-proxy,proxy",
}
# Settings of the whole machine that the kubelet would change; it gets copies.
SYSCTLS = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops")
SYSCTLS += ("kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes")


def prepare_mounts(state: Path) -> None:
    """Give the node folders of its own for what its programs write, and copies of the kernel's settings."""
    run("mount", "--make-rprivate", "/")
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    targets = {"kubelet": "/run/kubelet", "images": "/run/images", "log": "/var/log", "networks": CNI_CACHE}
    for folder, target in targets.items():
        (state / folder).mkdir(exist_ok=True)
        Path(target).mkdir(parents=True, exist_ok=True)
        run("mount", "--bind", state / folder, target)
    run("mount", "--make-rshared", "/run")
    for name in SYSCTLS:
        setting, copy = Path("/proc/sys", name), state / "sysctl" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(setting.read_text())
        run("mount", "--bind", copy, setting)


def prepare_network() -> None:
    """Create the node's address. Pods get theirs from the plugin `ptp`, which routes, so that no bridge has to be filtered."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "node0", "type", "bridge")
    run("ip", "address", "add", f"{NODE}/24", "dev", "node0")
    run("ip", "link", "set", "node0", "up")
    run("ip", "route", "add", "default", "via", NODE)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def prepare_cgroups(name: str) -> None:
    """Make the control group of all pods; with version 1 it is one of each controller."""
    root = Path("/sys/fs/cgroup")
    controllers = [root] if (root / "cgroup.controllers").exists() else sorted(root.iterdir())
    for controller in controllers:
        if (controller / "cgroup.procs").exists():
            (controller / name).mkdir(exist_ok=True)
            for setting in ("cpuset.cpus", "cpuset.mems"):
                if (controller / setting).exists():
                    (controller / name / setting).write_text((controller / setting).read_text())


class Node:
    """The node's programs.

    Args:
        state: Folder of everything that they write.
        programs: Folder of Kubernetes' programs, etcd and CoreDNS.
        settings: What `cluster.py` passes: mounts, images, control group and reserved memory.
    """

    def __init__(self, state: Path, programs: Path, settings: dict[str, Any]) -> None:
        self._state, self._programs, self._settings = state, programs, settings
        self._tokens = {name: secrets.token_hex(16) for name in USERS}
        self._processes: dict[int, str] = {}

    def start(self) -> None:
        """Start everything, each program when those that it needs answer."""
        state = self._state
        (state / "tokens.csv").touch(mode=0o600)
        lines = [f"{self._tokens[name]},{user}" for name, user in USERS.items()]
        (state / "tokens.csv").write_text("\n".join(lines) + "\n")
        self._start_containerd()
        self._start_api_server()
        certificate = state / "api-server.crt"
        files = {
            name: write_kubeconfig(state / f"{name}.kubeconfig", API, certificate, token)
            for name, token in self._tokens.items()
        }
        write_kubeconfig(state / "kubeconfig", self._settings["server"], certificate, self._tokens["admin"])
        self._start(
            "kube-controller-manager",
            f"--kubeconfig={files['kube-controller-manager']}",
            f"--root-ca-file={certificate}",
            f"--service-account-private-key-file={state}/accounts.key",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
        )
        self._start(
            "kube-scheduler",
            f"--kubeconfig={files['kube-scheduler']}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
        )
        limits = (self._settings["cgroup"], self._settings["reserved_memory"])
        settings = write_kubelet_settings(state, state / "kubelet-client.crt", *limits)
        self._start(
            "kubelet",
            f"--config={settings}",
            f"--kubeconfig={files['kubelet']}",
            "--hostname-override=node",
            f"--node-ip={NODE}",
            "--root-dir=/run/kubelet",
        )
        self._start(
            "kube-proxy",
            f"--kubeconfig={files['kube-proxy']}",
            "--hostname-override=node",
            "--proxy-mode=nftables",
            f"--cluster-cidr={PODS}",
            "--conntrack-max-per-core=0",
            "--conntrack-min=0",
        )
        (state / "Corefile").write_text(
            f".:53 {{\n bind {NODE}\n errors\n cache 2\n kubernetes cluster.local in-addr.arpa {{\n"
            f"  kubeconfig {files['admin']}\n  ttl 2\n }}\n}}\n"
        )
        self._start("coredns", "-conf", state / "Corefile")

    def wait(self) -> None:
        """Wait until one of the programs ends, which ends the node; collect the processes that lost their parent."""
        while True:
            ended, status = os.wait()
            if name := self._processes.get(ended):
                sys.exit(f"{name} ended with {os.waitstatus_to_exitcode(status)}; see {self._state}/{name}.log")

    def _start_containerd(self) -> None:
        path = write_containerd_settings(self._state, self._settings["mounts"])
        self._start("containerd", "--config", path)
        self._wait_for("containerd", lambda: _is_open("/run/containerd/containerd.sock"))
        for archive in self._settings["images"]:
            run("ctr", "--namespace", "k8s.io", "images", "import", archive)

    def _start_api_server(self) -> None:
        state = self._state
        names = f"subjectAltName=IP:127.0.0.1,IP:{NODE},IP:{FIRST_SERVICE},DNS:kubernetes.default.svc"
        create_certificate(state / "api-server", "/CN=api-server", "-addext", names)
        create_certificate(state / "kubelet-client", "/O=system:masters/CN=api-server")
        run("openssl", "genrsa", "-out", state / "accounts.key", "2048")
        # The store of a test cluster need not survive a power cut.
        self._start("etcd", "--data-dir", state / "etcd", "--unsafe-no-fsync", "--log-level", "warn")
        self._start(
            "kube-apiserver",
            "--etcd-servers=http://127.0.0.1:2379",
            f"--tls-cert-file={state}/api-server.crt",
            f"--tls-private-key-file={state}/api-server.key",
            f"--advertise-address={NODE}",
            f"--service-cluster-ip-range={SERVICES}",
            f"--token-auth-file={state}/tokens.csv",
            "--authorization-mode=Node,RBAC",
            "--kubelet-preferred-address-types=InternalIP",
            "--enable-admission-plugins=NodeRestriction",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={state}/accounts.key",
            f"--service-account-signing-key-file={state}/accounts.key",
            f"--kubelet-client-certificate={state}/kubelet-client.crt",
            f"--kubelet-client-key={state}/kubelet-client.key",
        )
        self._wait_for("kube-apiserver", lambda: _is_open(("127.0.0.1", 6443)))

    def _start(self, name: str, *arguments: object) -> None:
        program = self._programs / name
        command = [program if program.exists() else name, *arguments]
        with (self._state / f"{name}.log").open("w") as log:
            process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=subprocess.STDOUT)
        self._processes[process.pid] = name
        print(f"started {name}", flush=True)

    def _wait_for(self, name: str, is_ready: Any, seconds: float = 180.0) -> None:
        end = time.monotonic() + seconds
        while not is_ready():
            if time.monotonic() > end:
                sys.exit(f"{name} does not answer after {seconds:.0f} s; see {self._state}/{name}.log")
            time.sleep(0.2)


def forward(listener: socket.socket) -> None:
    """Pass connections of the machine's own network to the API server.

    The listener was opened before the namespaces were, so it belongs to the machine; what is opened here belongs to the node.
    """
    while True:
        client, _ = listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", 6443))
        except OSError:
            client.close()
            continue
        for source, target in ((client, server), (server, client)):
            threading.Thread(target=_copy, args=(source, target), daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while content := source.recv(1 << 16):
            target.sendall(content)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for connection in (source, target):
            connection.close()


def _is_open(address: str | tuple[str, int]) -> bool:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as connection:
        return connection.connect_ex(address) == 0


def main() -> None:
    """Start the node: `node.py STATE PROGRAMS LISTENER`, with the settings as JSON on standard input."""
    state, programs, listener = Path(sys.argv[1]), Path(sys.argv[2]), socket.socket(fileno=int(sys.argv[3]))
    settings = json.load(sys.stdin)
    run("hostname", "node")
    prepare_mounts(state)
    prepare_network()
    prepare_cgroups(settings["cgroup"])
    node = Node(state, programs, settings)
    node.start()
    threading.Thread(target=forward, args=(listener,), daemon=True).start()
    print("started all", flush=True)
    node.wait()


if __name__ == "__main__":
    main()
