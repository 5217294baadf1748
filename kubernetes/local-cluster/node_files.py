"""The files that the node's programs read: certificates, kubeconfig files, settings of containerd and of the kubelet."""

import json
import subprocess
from pathlib import Path
from typing import Any

NODE = "10.89.0.1"
PODS, SERVICES, FIRST_SERVICE = "10.88.0.0/16", "10.96.0.0/16", "10.96.0.1"
CNI_CACHE = "/var/lib/cni"  # of the network plugins; no setting names another folder
API = "https://127.0.0.1:6443"


def run(*words: object) -> None:
    """Run a program; its output goes to the node's log.

    Raises:
        CalledProcessError: if it fails.
    """
    subprocess.run(list(map(str, words)), check=True)


def create_certificate(path: Path, subject: str, *options: str) -> None:
    """Create a key and a certificate that it signs itself: `path` with the suffixes .key and .crt."""
    files = ["-keyout", f"{path}.key", "-out", f"{path}.crt"]
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 365, "-subj", subject, *options, *files)


def write_json(path: Path, value: Any) -> Path:
    """Write a file in JSON, which is YAML, too."""
    path.write_text(json.dumps(value, indent=1))
    return path


def write_kubeconfig(path: Path, server: str, certificate: Path, token: str) -> Path:
    """Write a kubeconfig file of one cluster and one user."""
    return write_json(
        path,
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "showcase",
            "clusters": [{"name": "node", "cluster": {"server": server, "certificate-authority": str(certificate)}}],
            "users": [{"name": path.stem, "user": {"token": token}}],
            "contexts": [{"name": "showcase", "context": {"cluster": "node", "user": path.stem}}],
        },
    )


def write_containerd_settings(state: Path, mounts: list[dict[str, Any]]) -> Path:
    """Write containerd's settings, its network and, for the thin image, the mounts that every container gets."""
    plugin = 'plugins."io.containerd.grpc.v1.cri"'
    network = {
        "type": "ptp",
        "ipMasq": False,
        "ipam": {"type": "host-local", "subnet": PODS, "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "/run/addresses"},
    }
    (state / "cni").mkdir(exist_ok=True)
    write_json(state / "cni" / "10-node.conflist", {"cniVersion": "1.0.0", "name": "node", "plugins": [network]})
    spec = json.loads(subprocess.run(["ctr", "oci", "spec"], check=True, capture_output=True).stdout)
    spec["mounts"] += mounts
    base = write_json(state / "container.json", spec)
    path = state / "containerd.toml"
    path.write_text(f"""version = 2
root = "/run/images"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "/run/containerd/opt"
[{plugin}]
sandbox_image = "docker.io/library/pause:1"
# Where this machine is a container itself, it may not make processes harder to kill.
restrict_oom_score_adj = true
[{plugin}.cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{state}/cni"
[{plugin}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
base_runtime_spec = "{base}"
""")
    return path


def write_kubelet_settings(state: Path, certificate: Path, cgroup: str, reserved_memory: str) -> Path:
    """Write the kubelet's settings; `reserved_memory` is what pods may not use, in bytes."""
    return write_json(
        state / "kubelet.json",
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": str(certificate)}},
            "authorization": {"mode": "Webhook"},
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{cgroup}",
            "cgroupsPerQOS": True,
            "failCgroupV1": False,
            "failSwapOn": False,
            "enforceNodeAllocatable": ["pods"],
            "systemReserved": {"memory": reserved_memory},
            "evictionHard": {"memory.available": "200Mi", "nodefs.available": "2Gi"},
            "imageGCHighThresholdPercent": 100,
            "clusterDomain": "cluster.local",
            "clusterDNS": [NODE],
            "resolvConf": "",
            "podLogsDir": "/run/pod-logs",
            "volumePluginDir": "/run/volume-plugins",
            "registerNode": True,
            "syncFrequency": "10s",
        },
    )
