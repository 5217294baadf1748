"""Model server and gateway in one process: the gateway calls the engine directly, and both follow the rollout files."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import cast

from serving import rollout
from serving.gateway.gateway import Gateway
from serving.gateway.gateway_metrics import GatewayMetrics
from serving.gateway.history.embedded_memory import EmbeddedMemory
from serving.gateway.history.memory import Memory, StoreUnavailableError
from serving.gateway.model_calls.backend import EngineBackend, GrpcBackend
from serving.gateway.scoring import Scorer, ScoringOptions
from serving.gateway.use_case_interface import Online, Shareable
from serving.http import asyncio_server
from serving.rollout import Rollout
from serving.server.app import ModelServer
from serving.server.app import ServerOptions as ServerOptions
from serving.server.config import ModelConfig
from serving.status_errors import ServingError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedCase:
    """One served case and its folders.

    Attributes:
        online: The case's part of the gateway; None if only the model server serves the case.
        versions: Folder of versions.
        folder: Folder of the logs and the memory.
    """

    online: Online | None
    versions: Path
    folder: Path


@dataclass(frozen=True)
class StackSettings:
    """What to start, and how.

    Attributes:
        cases: Served cases by name.
        server: The model server's options, except its models.
        host: Address on which the gateway listens.
        port: The gateway's port; 0 for any free port, None for no gateway.
        backend: ``host:port`` of a TensorFlow Serving to use instead of the engine; then no model server is started.
        options: How cases are served.
        can_fill: Called with a case's name; whether everything that ``seed`` needs is available.
        seed: Fills the memory of a case that has no history yet; returns the number of rows added.
        store: URL of a Redis that holds the history of cases with a memory; empty to keep it in this process.
    """

    cases: Mapping[str, ServedCase]
    server: ServerOptions = field(default_factory=ServerOptions)
    host: str = "127.0.0.1"
    port: int | None = 8080
    backend: str = ""
    options: ScoringOptions = field(default_factory=ScoringOptions)
    can_fill: Callable[[str], bool] = lambda name: True
    seed: Callable[[str, Online], int] = lambda name, online: 0
    store: str = ""


class Stack:
    """The model server and the gateway, from start to shutdown.

    Attributes:
        app: The model server; None with an external backend.
        gateway: The gateway; None if ``settings.port`` is None.
        port: The gateway's port, once started.
    """

    def __init__(self, settings: StackSettings) -> None:
        self.settings, self.port = settings, 0
        self.app = (
            None
            if settings.backend
            else ModelServer(replace(settings.server, models=build_model_configs(settings.cases)))
        )
        self.gateway: Gateway | None = None
        self._listening: asyncio_server.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._failed: set[str] = set()
        self._rollouts: dict[str, Rollout] = {}

    async def start(self) -> "Stack":
        """Load the models, restore the memories, then listen.

        Raises:
            OSError: if a port or a folder cannot be opened or locked.
            ValueError: if a file on disk is damaged.
        """
        if self.app:
            await self.app.start()
        self._rollouts = await asyncio.to_thread(read_rollouts, self.settings.cases)
        if self.settings.port is not None:
            gateway = await self._start_gateway(self.settings.port)
            self._tasks.append(asyncio.create_task(self._watch_new_cases(gateway)))
        if self.app:
            await self._assign_labels(self.app, self._rollouts)
        self._tasks.append(asyncio.create_task(self._follow_rollouts()))
        return self

    async def _start_gateway(self, port: int) -> Gateway:
        settings, self._metrics = self.settings, GatewayMetrics()
        self._backend = EngineBackend(self.app.engine) if self.app else GrpcBackend(settings.backend)
        scorers = {
            name: await self._scorer(name, case)
            for name, case in settings.cases.items()
            if await self._can_serve(name, case)
        }
        self.gateway = Gateway(scorers, self._metrics).open()
        max_body = max((case.online.max_bytes for case in settings.cases.values() if case.online), default=0) + (
            64 << 10
        )
        self._listening = await asyncio_server.serve(self.gateway, settings.host, port, max_body=max_body)
        self.port = self._listening.port
        return self.gateway

    async def _can_serve(self, name: str, case: ServedCase) -> bool:
        """Return whether the case has a gateway part, a loaded version, and everything that its seed needs."""
        if case.online is None or not rollout.list_versions(case.versions):
            return False
        loaded = self.app is None or self.app.engine.manager.loaded(name)
        return bool(loaded) and await asyncio.to_thread(self.settings.can_fill, name)

    async def _watch_new_cases(self, gateway: Gateway) -> None:
        """Add cases to the gateway whose first version is pushed while it runs."""
        while True:
            await asyncio.sleep(self.settings.server.poll)
            for name in self.settings.cases.keys() - gateway.scorers.keys() - self._failed:
                try:
                    if await self._can_serve(name, self.settings.cases[name]):
                        await self._add_case(gateway, name, self.settings.cases[name])
                except Exception as error:  # the cause may be temporary; the next poll tries again
                    log.error("%s is not served yet: %s", name, error)

    async def _add_case(self, gateway: Gateway, name: str, case: ServedCase) -> None:
        try:
            await gateway.add(await self._scorer(name, case))
        except StoreUnavailableError:
            raise
        except (OSError, ValueError) as error:
            self._failed.add(name)
            log.error("%s is not served; fix this and restart the gateway: %s", name, error)

    async def _scorer(self, name: str, case: ServedCase) -> Scorer:
        """Return the case's scorer, with its memory filled."""
        assert case.online is not None, "_can_serve() checks it"
        settings, memory = self.settings, self._make_memory(name, case.online, case.folder)
        if count := await memory.fill(partial(settings.seed, name)):
            log.info("%s starts with a history of %d rows", name, count)
        return Scorer(
            name=name,
            online=case.online,
            backend=self._backend,
            versions=case.versions,
            folder=case.folder,
            options=settings.options,
            metrics=self._metrics,
            memory=memory,
        )

    def _make_memory(self, name: str, online: Online, folder: Path) -> Memory:
        """Return a memory in Redis if a store is set and the case has a history to share; else an embedded memory."""
        if not (self.settings.store and online.has_history):
            return EmbeddedMemory(online, folder, self.settings.options.checkpoint_schedule)
        from serving.gateway.history.redis_memory import (
            RedisMemory,  # imported here, so that a gateway without Redis does not load its client
        )

        options = self.settings.options
        counter = lru_cache(lambda outcome: self._metrics.histories.labels(name, outcome))
        return RedisMemory(
            name=name,
            online=cast(Shareable, online),  # every case with a memory is shareable
            folder=folder,
            url=self.settings.store,
            timeout=options.timeout,
            breaker_policy=options.breaker_policy,
            count_outcome=lambda outcome: counter(outcome).inc(),
        )

    def loaded(self) -> dict[str, int]:
        """Return the newest version that the model server serves, by case; empty with an external backend."""
        if self.app is None:
            return {}
        engine = self.app.engine
        return {name: engine.servable(name).version for name in self.settings.cases if engine.manager.loaded(name)}

    async def close(self) -> None:
        """Answer the requests in flight, then release everything, the memory last."""
        for task in self._tasks:
            task.cancel()
        if self.gateway:
            self.gateway.draining = True
            if self._listening:
                await self._listening.close(self.settings.server.drain_seconds)
            await self.gateway.close()
            await self._backend.close()
        if self.app:
            await self.app.close()

    async def _follow_rollouts(self) -> None:
        """Make the engine load the versions in the rollout files.

        The gateway reads the files by itself; it works whichever of the two reads a change first.
        """
        while True:
            await asyncio.sleep(self.settings.server.poll)
            try:
                current = await asyncio.to_thread(read_rollouts, self.settings.cases)
                if self.app and current != self._rollouts:
                    await self.app.engine.reload(build_model_configs(self.settings.cases))
                    await self._assign_labels(self.app, current)
                    self._rollouts = current
            except (OSError, ValueError, ServingError) as error:  # the previous versions stay in service
                log.error("the rollout is not followed: %s", error)

    async def _assign_labels(self, app: ModelServer, current: Mapping[str, Rollout]) -> None:
        """Assign version labels after loading: a label may only name a loaded version."""
        if any(state.versions_to_load for state in current.values()):
            await app.engine.reload(build_model_configs(self.settings.cases, labels=True))


def read_rollouts(cases: Mapping[str, ServedCase]) -> dict[str, Rollout]:
    """Read the rollout of each case; that of a case in a bucket is downloaded first.

    Raises:
        ValueError: if a file is damaged.
    """
    rollout.download([case.versions for case in cases.values()])
    return {name: rollout.read(case.versions) for name, case in cases.items()}


def build_model_configs(cases: Mapping[str, ServedCase], labels: bool = False) -> list[ModelConfig]:
    """Return the engine's model configuration: the versions of each rollout, or the newest if it names none."""
    configs = []
    for name, case in cases.items():
        state = rollout.read(case.versions)
        policy = "specific" if state.versions_to_load else "latest"
        chosen = state.labels if labels else {}
        configs.append(ModelConfig(name, str(case.versions), policy, specific=state.versions_to_load, labels=chosen))
    return configs
