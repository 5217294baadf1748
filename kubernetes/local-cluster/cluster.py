"""Start and stop a Kubernetes cluster of one node on this machine, in namespaces of its own; Linux, as root.

Nothing of the machine's network, firewall, mounts or kernel settings changes: the node has its own of each, and they end with
its first process. Outside of them are the folder `.tools/cluster`, the pods' control group, and one port of 127.0.0.1.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from node_files import CNI_CACHE
from thin_image import ROOT, list_mounts, write_archive

STATE = ROOT / ".tools" / "cluster"
PROGRAMS = ROOT / ".tools" / "bin"
NEEDED = tomllib.loads(Path(__file__).with_name("programs.toml").read_text())
START_SECONDS = 180.0
VOLUMES = 8  # of 100 GiB by name; they are folders, so they take what is written
USER = 10001  # that of the image


class ClusterError(Exception):
    """The cluster cannot be started."""


def start(archive: Path | None, memory_gib: float) -> None:
    """Start the node, wait until it is ready, and print where its kubeconfig file is.

    Args:
        archive: Archive of the image built from the Dockerfile; None for the thin image.
        memory_gib: Memory that pods may request.

    Raises:
        ClusterError: if a program is missing, a cluster runs already, or the node does not become ready.
    """
    check_machine()
    shutil.rmtree(STATE, ignore_errors=True)
    STATE.mkdir(parents=True, mode=0o700)  # it holds the administrator's token
    with report("image"):
        images = write_images(archive)
    with report("etcd, API server, scheduler, controllers, kubelet, proxy, DNS"):
        process = launch(images, [] if archive else list_mounts(), memory_gib)
        wait_until(lambda: "started all" in (STATE / "node.log").read_text(), process)
    kubectl = ["kubectl", "--kubeconfig", str(STATE / "kubeconfig")]
    with report("node ready"):
        ready = [*kubectl, "wait", "--for=condition=Ready", "node/node", "--timeout=10s"]
        wait_until(lambda: subprocess.run(ready, capture_output=True).returncode == 0, process)
    with report("volumes and namespace"):
        objects = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(list_objects())})
        apply = [*kubectl, "apply", "--filename", "-"]
        wait_until(lambda: subprocess.run(apply, input=objects.encode(), capture_output=True).returncode == 0, process)
        account = [*kubectl, "get", "serviceaccount", "default"]  # a pod needs the one of its namespace
        wait_until(lambda: subprocess.run(account, capture_output=True).returncode == 0, process)
    print(f"KUBECONFIG={STATE / 'kubeconfig'}")


def stop() -> None:
    """End every process of the node and remove what it wrote.

    Raises:
        ClusterError: if something of it is still mounted or in use.
    """
    if process := read_process():
        os.kill(process, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while Path("/proc", str(process)).exists() and time.monotonic() < deadline:
            time.sleep(0.1)
    for group in find_groups():
        for folder, _, _ in os.walk(group, topdown=False):
            remove_group(Path(folder))
    with suppress(OSError):  # a mount point of the node, which is empty outside of it
        Path(CNI_CACHE).rmdir()
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    if left := [mount for mount in mounts if mount.startswith(f"{STATE}/")]:
        raise ClusterError(f"These folders are still mounted: {', '.join(left)}")
    shutil.rmtree(STATE, ignore_errors=True)
    print("The cluster is stopped and removed." if process else "No cluster runs.")


def check_machine() -> None:
    """Check that this machine can run the node.

    Raises:
        ClusterError: with everything that is missing.
    """
    if os.geteuid() != 0:
        raise ClusterError("A node needs root: run it as root, or set KUBECONFIG to a cluster of yours.")
    if read_process():
        raise ClusterError(
            f"A cluster runs already: KUBECONFIG={STATE / 'kubeconfig'}; stop it with make cluster-down."
        )
    if missing := [package for program, package in NEEDED["system"].items() if not shutil.which(program)]:
        raise ClusterError(f"Missing programs: apt-get install --no-install-recommends {' '.join(missing)}")
    if unbuilt := [name for name in NEEDED["built"] if not (PROGRAMS / name).exists()]:
        raise ClusterError(f"Not in {PROGRAMS}: {', '.join(unbuilt)}. Build them with make cluster-programs.")


def write_images(archive: Path | None) -> list[str]:
    """Write the archives of the images that the manifests name; return their paths."""
    manifests = ["kubectl", "kustomize", str(ROOT / "kubernetes" / "overlays" / "laptop")]
    text = subprocess.run(manifests, check=True, capture_output=True, text=True).stdout
    words = {line.split("image:")[1].strip() for line in text.splitlines() if " image:" in line}
    names = sorted(f"docker.io/{name if '/' in name else f'library/{name}'}" for name in words)
    pause, thin = STATE / "pause.tar", STATE / "image.tar"
    write_archive(pause, ["docker.io/library/pause:1"], {"pause": PROGRAMS / "pause"}, ["/pause"])
    if archive is None:
        write_archive(thin, names, {}, ["showcase", "--help"])
    return [str(pause), str(archive or thin)]


def launch(images: list[str], mounts: list[dict[str, object]], memory_gib: float) -> subprocess.Popen[bytes]:
    """Start the node's first process in new namespaces."""
    listener = socket.create_server(("127.0.0.1", 0))
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    settings = {
        "server": f"https://127.0.0.1:{listener.getsockname()[1]}",
        "cgroup": f"showcase-{os.getpid()}",
        "mounts": mounts,
        "images": images,
        "reserved_memory": str(max(0, total - int(memory_gib * 2**30))),
    }
    namespaces = ["unshare", "--fork", "--pid", "--kill-child", "--mount", "--mount-proc", "--net", "--uts", "--ipc"]
    program = [sys.executable, Path(__file__).with_name("node.py"), STATE, PROGRAMS, listener.fileno()]
    with (STATE / "node.log").open("wb") as log:
        process = subprocess.Popen(
            [*namespaces, *map(str, program)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[listener.fileno()],
            start_new_session=True,
            cwd=STATE,
        )
    listener.close()
    (STATE / "pid").write_text(str(process.pid))
    (STATE / "cgroup").write_text(str(settings["cgroup"]))
    assert process.stdin
    process.stdin.write(json.dumps(settings).encode())
    process.stdin.close()
    return process


def wait_until(is_done: object, process: subprocess.Popen[bytes]) -> None:
    """Wait until a function returns true.

    Raises:
        ClusterError: if the node has ended, or after `START_SECONDS`.
    """
    deadline = time.monotonic() + START_SECONDS
    while not is_done():  # type: ignore[operator]
        if process.poll() is not None or time.monotonic() > deadline:
            last = (STATE / "node.log").read_text()[-2000:]
            raise ClusterError(f"The node did not start; its programs' logs are in {STATE}.\n{last}")
        time.sleep(0.5)


def list_objects() -> Iterator[dict[str, object]]:
    """Return the volumes, which are folders of the node, and the namespace of the overlay `laptop`."""
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kubeflow"}}
    for number in range(VOLUMES):
        folder = STATE / "volumes" / str(number)
        folder.mkdir(parents=True)
        os.chown(folder, USER, USER)
        yield {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"volume-{number}"},
            "spec": {
                "capacity": {"storage": "100Gi"},
                "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": str(folder), "type": "Directory"},
            },
        }


def read_process() -> int | None:
    """Return the id of the process that holds the namespaces; None if no cluster runs."""
    try:
        process = int((STATE / "pid").read_text())
        command = Path("/proc", str(process), "cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return process if b"node.py" in command and bytes(STATE) in command else None


def find_groups() -> list[Path]:
    """Return the node's control groups: a single one with version 2, and one per controller with version 1."""
    try:
        name = (STATE / "cgroup").read_text()
    except FileNotFoundError:
        return []
    return [*Path("/sys/fs/cgroup").glob(name), *Path("/sys/fs/cgroup").glob(f"*/{name}")]


def remove_group(group: Path) -> None:
    """Remove a control group; its processes have just been killed, and it is in use until they are gone."""
    for _ in range(100):
        try:
            group.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.1)
    raise ClusterError(f"The control group {group} is still in use.")


@contextmanager
def report(step: str) -> Iterator[None]:
    """Print a step and how long it took."""
    print(f"{step} …", end=" ", flush=True)
    start_time = time.monotonic()
    yield
    print(f"{time.monotonic() - start_time:.0f} s")


def main() -> None:
    """`cluster.py start [--image ARCHIVE] [--memory GIB]` or `cluster.py stop`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["start", "stop"])
    parser.add_argument("--image", type=Path, help="archive of the Dockerfile's image; by default the thin image")
    parser.add_argument("--memory", type=float, default=8.0, help="GiB that pods may request")
    options = parser.parse_args()
    try:
        start(options.image, options.memory) if options.action == "start" else stop()
    except ClusterError as error:
        sys.exit(f"\n{error}")


if __name__ == "__main__":
    main()
