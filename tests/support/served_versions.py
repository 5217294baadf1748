"""A model server of one model, ``m``, whose versions a test pushes, changes and removes."""

from pathlib import Path
from typing import Any

from serving.server.app import ModelServer, ServerOptions
from serving.server.config import ModelConfig
from serving.server.loading.versions import VersionState
from serving.status_errors import ServingError
from support.served_models import POLL, wait_until


def build_options(base: Path, **changes: Any) -> ServerOptions:
    return ServerOptions([ModelConfig("m", str(base))], **({"grpc_port": 0, "rest_port": 0, "poll": POLL} | changes))


def list_states(app: ModelServer) -> list[VersionState]:
    try:
        return app.engine.states("m")
    except ServingError:
        return []


def find_available(app: ModelServer) -> set[int]:
    return {state.version for state in list_states(app) if state.state == "AVAILABLE"}


def has_failed(app: ModelServer) -> bool:
    return bool(list_states(app)) and list_states(app)[0].state == "END"


def wait_for_polls(app: ModelServer) -> None:
    """Wait until the server has polled the folders twice more."""
    manager, polls = app.engine.manager, []
    poll = manager.poll

    async def count_poll() -> None:
        await poll()
        polls.append(1)

    manager.poll = count_poll
    wait_until(lambda: len(polls) >= 2)
    manager.poll = poll
