"""A thin image: an archive without files, and the mounts that show a container this machine's programs and this checkout.

The image of the Dockerfile has gigabytes and takes minutes to build and to load. Here the same Python environment is mounted
read-only into every container, so that a change of the code needs no new image. Users, limits, volumes, probes, networks and
read-only file systems are those of the manifests.
"""

import io
import json
import re
import sys
import tarfile
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LINKS = ("bin", "sbin", "lib", "lib64")
ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nshowcase:x:10001:10001::/tmp:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\nshowcase:x:10001:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}
FOLDER = "/app"  # of the code, as in the Dockerfile
# The commands of the environment name the Python of this checkout by its path, which a pod need not have.
COMMANDS = {"showcase": "cli.main", "tensorflow_model_server": "serving.server.model_server"}


def list_mounts() -> list[dict[str, Any]]:
    """Return the mounts of every container, in containerd's form: the system, Python, this checkout, its environment."""
    base = Path(sys.base_prefix).resolve()
    folders = {"/usr": Path("/usr"), str(base): base, FOLDER: ROOT, f"{FOLDER}/.venv": Path(sys.prefix)}
    options = ["rbind", "ro", "nosuid", "nodev"]
    return [
        {"destination": target, "type": "bind", "source": str(source), "options": options}
        for target, source in folders.items()
        if target == "/usr" or not target.startswith("/usr/")
    ]


def read_environment() -> list[str]:
    """Return the environment variables of the Dockerfile's last stage, with the commands above before its own."""
    line = re.findall(r"^ENV (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[-1]
    system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return line.replace("PATH=", "PATH=/opt/showcase:", 1).replace("$PATH", system).split()


def write_archive(path: Path, names: Sequence[str], programs: Mapping[str, Path], command: Sequence[str]) -> None:
    """Write an image archive in Docker's form.

    Args:
        path: File to write.
        names: Full names of the image, with their tags.
        programs: Files to put into the image, by their path in it.
        command: What a container runs if its pod does not say.
    """
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        for link in LINKS:
            entry = tarfile.TarInfo(link)
            entry.type, entry.linkname = tarfile.SYMTYPE, f"usr/{link}"
            archive.addfile(entry)
        for name, mode in {"tmp": 0o1777, "etc": 0o755, "usr": 0o755, "opt/showcase": 0o755}.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            archive.addfile(entry)
        contents = {name: (text.encode(), 0o644) for name, text in ACCOUNTS.items()}
        for name, module in COMMANDS.items():
            code = f'import sys; sys.argv[0] = "{name}"; from {module} import main; main()'
            program = f"#!/bin/sh\nexec python -c '{code}' \"$@\"\n"
            contents[f"opt/showcase/{name}"] = (program.encode(), 0o755)
        contents |= {name: (source.read_bytes(), 0o755) for name, source in programs.items()}
        for name, (content, mode) in contents.items():
            _add(archive, name, content, mode)
    settings = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": read_environment(), "WorkingDir": FOLDER, "User": "10001:10001", "Cmd": list(command)},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer.getvalue()).hexdigest()}"]},
    }
    with tarfile.open(path, "w") as archive:
        _add(archive, "layer.tar", layer.getvalue())
        _add(archive, "config.json", json.dumps(settings).encode())
        manifest = [{"Config": "config.json", "RepoTags": list(names), "Layers": ["layer.tar"]}]
        _add(archive, "manifest.json", json.dumps(manifest).encode())


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))
