"""A machine whose programs are stubs that log their calls, for the tests of make and .ci/run."""

import shutil
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
BASICS = ("sh", "bash", "uname", "dirname", "ls", "head", "rm", "touch", "mkdir", "cat", "chmod", "awk", "sed")
MAKE = shutil.which("make")


class Machine:
    """A checkout with the files that make reads, and the folder of programs that is the whole PATH."""

    def __init__(self, folder: Path) -> None:
        self.checkout, self.programs, self.log = folder / "checkout", folder / "bin", folder / "log"
        self.checkout.mkdir()
        self.programs.mkdir()
        for name in ("Makefile", "pyproject.toml", "uv.lock"):
            shutil.copy(REPOSITORY / name, self.checkout)
        for name in BASICS:
            (self.programs / name).symlink_to(shutil.which(name))

    def add(self, name: str, text: str = "", folder: Path | None = None) -> Path:
        """Add a program that logs its name and arguments, then runs ``text``."""
        path = (folder or self.programs) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.log}\n{text}\n')
        path.chmod(0o755)
        return path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command with only PATH in its environment, so that an outer make has no influence."""
        environment = {"PATH": str(self.programs)}
        return subprocess.run(command, check=False, cwd=self.checkout, env=environment, capture_output=True, text=True)

    def make(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run(str(MAKE), *words)

    def calls(self, *names: str) -> list[str]:
        """Return the calls of these programs in order."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if line.split()[0] in names]
