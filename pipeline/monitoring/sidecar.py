"""Drift monitor as a sidecar process of the gateway, so that the serving path never waits for it."""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.catalog import find_use_case
from models.training.distribute.local_processes import end_with_parent
from models.use_case import UseCase
from pipeline.local.local_runtime import local_runtime

if TYPE_CHECKING:
    from serving.drift.profiles.windows import Windowing

POLL = 1.0
NICE = 10
RESTART_SECONDS = 5.0  # seconds before an ended monitor is restarted
log = logging.getLogger(__name__)


def window_cut(case: UseCase) -> "Windowing":
    """Return how the case's log is divided into windows: by event time or by number of rows."""
    from serving.drift.profiles.windows import Windowing

    return Windowing(case.time, case.window_rows)


def follow(home: Path, cases: Sequence[str], webhook: str, poll: float = POLL) -> None:
    """Follow the logs of cases until the process is killed; log the error of a case and retry it."""
    from serving.drift.alert_sinks import Sink, Webhook, log_alert
    from serving.drift.gateway_monitor import STEP_ROWS, GatewayMonitor

    sinks: list[Sink] = [log_alert, Webhook(webhook)] if webhook else [log_alert]
    runtime = local_runtime(home)
    monitors: dict[str, GatewayMonitor] = {}
    while True:
        for name in cases:
            folder = runtime.case(name).online
            try:
                if name not in monitors and folder.is_dir():
                    monitors[name] = GatewayMonitor(
                        name, folder, runtime.case(name).versions, window_cut(find_use_case(name)), sinks
                    )
                if name in monitors:
                    monitors[name].step(STEP_ROWS)
            except (OSError, ValueError) as error:
                log.error("the monitor of %s failed and is retried: %s", name, error)
                monitors.pop(name, None)  # restored from its saved state in the next round
        time.sleep(poll)


class MonitorProcess:
    """The monitor's process while a gateway runs: restarted when it ends, stopped with the gateway."""

    def __init__(self, home: Path, cases: Sequence[str], webhook: str = "") -> None:
        arguments = ["--home", str(home), *(["--webhook", webhook] if webhook else []), *cases]
        self._command = [sys.executable, "-m", "pipeline.monitoring.sidecar", *arguments]
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Id of the running process; None if there is none."""
        return self._process.pid if self._process and self._process.returncode is None else None

    def start(self) -> None:
        """Start the process; call this from the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._keep_running())

    async def _keep_running(self) -> None:
        while True:
            with suppress(OSError):
                self._process = await asyncio.create_subprocess_exec(*self._command)
                log.info("the monitor is process %d", self._process.pid)
                exit_code = await self._process.wait()
                log.warning("the monitor ended with exit code %d and is restarted from its saved state", exit_code)
            await asyncio.sleep(RESTART_SECONDS)

    async def close(self) -> None:
        """Kill the process; log records processed since its last saved state are read again after the next start."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._process and self.pid:
            self._process.kill()
            await self._process.wait()


def export_gauges(metrics: Any, home: Path, cases: Sequence[str]) -> None:
    """Export the monitor's findings in the gateway's metrics; its state file is read when the metrics are scraped."""
    states: dict[str, tuple[float, Mapping[str, Any]]] = {}

    def refresh() -> None:
        for name in cases:
            path = Path(local_runtime(home).root, name, "online", "monitor.json")
            with suppress(OSError, ValueError, KeyError, IndexError):
                modified = path.stat().st_mtime
                if name not in states or states[name][0] != modified:
                    states[name] = (modified, json.loads(path.read_text()))
                    metrics.set_drift(name, states[name][1])

    metrics.add_refresh(refresh)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="+")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--webhook", default="")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICE)
    follow(options.home, options.cases, options.webhook)


if __name__ == "__main__":
    main()
