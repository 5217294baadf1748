"""The functions that the demonstration calls to act on the system, in one object, so that a test can replace them."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.retraining_policy import RetrainingPolicy
from models.use_case import UseCase
from pipeline.local import processes
from pipeline.local.progress import Report
from pipeline.monitoring import decisions, retraining_loop
from pipeline.online import replay
from pipeline.run import Run
from pipeline.runtime import Runtime
from tour.demo import servers
from tour.demo.report import DemoReport


@dataclass(frozen=True)
class Collaborators:
    """The calls that take minutes or start processes, and how long the demonstration waits for their effects.

    Attributes:
        run_pipeline: Runs a use case's pipeline and returns its record.
        serve_models: Context manager that serves a home's models and yields where the server listens.
        show_tour: Shows the tour until Ctrl-C.
        replay_traffic: Sends rows to the gateway and returns counts and latencies.
        start_process: Starts ``showcase WORDS`` as a child process with a log.
        monitor_once: Checks new windows of the prediction log for drift, decides, and retrains if that was decided.
        read_decisions: Returns all decisions about a use case, the oldest first.
        notice_timeout: Seconds that the gateway's monitor has to open an incident. It runs at a low priority, so a busy
            machine delays it.
        swap_timeout: Seconds that the gateway has to answer with a pushed version.
        settle_seconds: Seconds of traffic after the swap, so that the new version answers more than one request.
    """

    run_pipeline: Callable[..., Run]
    serve_models: Callable[[Path, DemoReport], AbstractContextManager[Mapping[str, Any]]] = servers.serve_models
    show_tour: Callable[[Path, DemoReport], None] = servers.show_tour
    replay_traffic: Callable[[replay.TrafficOptions], dict[str, Any]] = replay.send_traffic
    start_process: servers.StartProcess = processes.start
    monitor_once: Callable[
        [UseCase, RetrainingPolicy, Runtime, Report], tuple[decisions.StoredDecision | None, Run | None]
    ] = retraining_loop.run_monitor_once
    read_decisions: Callable[[Runtime, str], list[decisions.StoredDecision]] = decisions.list_decisions
    notice_timeout: float = 300.0
    swap_timeout: float = 120.0
    settle_seconds: float = 2.0
