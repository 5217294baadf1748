"""Model server and gateway in one process: the gateway asks the engine without a wire between, and both follow the rollouts."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import cast

from serving import rollout
from serving.errors import ServingError
from serving.gateway.backend import InProcess, Remote
from serving.gateway.gateway import Gateway
from serving.gateway.gateway_metrics import Metrics
from serving.gateway.history.embedded_memory import Embedded
from serving.gateway.history.memory import Memory, UnreachedError
from serving.gateway.scoring import Options, Scorer
from serving.gateway.use_case_interface import Online, Shareable
from serving.http import asyncio_server
from serving.rollout import Rollout
from serving.server.app import App
from serving.server.app import Options as ServerOptions
from serving.server.config import Model

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where a case lies.

    Attributes:
        online: Its part of the gateway, asked once a version is there; None where only the model server knows it.
        versions: Its folder of versions.
        folder: Its logs and its memory.
    """

    online: Online | None
    versions: Path
    folder: Path


@dataclass(frozen=True)
class Settings:
    """What is started.

    Attributes:
        cases: By name.
        server: The model server's options, but for its models.
        host: Where the gateway listens.
        port: 0 for any free port, None for no gateway.
        backend: ``host:port`` of a TensorFlow Serving in place of the engine; then no model server is started.
        options: How cases are served.
        arrived: Whether a case that has versions may be answered for: whatever ``seed`` asks for is there.
        seed: Called with a case that has never remembered anything; returns how many rows it has put in.
        store: Address of a Redis where the memory of cases that have one lies; empty for this process.
    """

    cases: Mapping[str, Place]
    server: ServerOptions = field(default_factory=ServerOptions)
    host: str = "127.0.0.1"
    port: int | None = 8080
    backend: str = ""
    options: Options = field(default_factory=Options)
    arrived: Callable[[str], bool] = lambda name: True
    seed: Callable[[str, Online], int] = lambda name, online: 0
    store: str = ""


class Stack:
    """Both, from start to drained.

    Attributes:
        app: The model server; None where the backend is elsewhere.
        gateway: None where none was asked for.
        port: The gateway's, once started.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings, self.port = settings, 0
        self.app = None if settings.backend else App(replace(settings.server, models=models(settings.cases)))
        self.gateway: Gateway | None = None
        self._listening: asyncio_server.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._hopeless: set[str] = set()
        self._rollouts: dict[str, Rollout] = {}

    async def start(self) -> "Stack":
        """Loads models, restores memories, then listens.

        Raises:
            OSError: if a port or a folder cannot be had.
            ValueError: if what lies on disk is damaged.
        """
        if self.app:
            await self.app.start()
        self._rollouts = rollouts(self.settings.cases)
        if self.settings.port is not None:
            gateway = await self._start_gateway(self.settings.port)
            self._tasks.append(asyncio.create_task(self._welcome(gateway)))
        if self.app:
            await self._assign(self.app, self._rollouts)
            self._tasks.append(asyncio.create_task(self._follow(self.app)))
        return self

    async def _start_gateway(self, port: int) -> Gateway:
        settings, self._metrics = self.settings, Metrics()
        self._backend = InProcess(self.app.engine) if self.app else Remote(settings.backend)
        scorers = {
            name: await self._scorer(name, at) for name, at in settings.cases.items() if await self._is_due(name, at)
        }
        self.gateway = Gateway(scorers, self._metrics).open()
        most = max((at.online.most_bytes for at in settings.cases.values() if at.online), default=0) + (64 << 10)
        self._listening = await asyncio_server.serve(self.gateway, settings.host, port, max_body=most)
        self.port = self._listening.port
        return self.gateway

    async def _is_due(self, name: str, at: Place) -> bool:
        """Whether the gateway can answer for a case: it has a version, which is loaded, and what it begins with is there."""
        if at.online is None or not rollout.versions(at.versions):
            return False
        loaded = self.app is None or self.app.engine.manager.loaded(name)
        return bool(loaded) and await asyncio.to_thread(self.settings.arrived, name)

    async def _welcome(self, gateway: Gateway) -> None:
        """Has the gateway answer for cases that are pushed for the first time while it runs."""
        while True:
            await asyncio.sleep(self.settings.server.poll)
            for name in self.settings.cases.keys() - gateway.scorers.keys() - self._hopeless:
                try:
                    if await self._is_due(name, self.settings.cases[name]):
                        await self._admit(gateway, name, self.settings.cases[name])
                except Exception as error:  # it may be mended, and then the next look finds it
                    log.error("%s is not answered for yet: %s", name, error)

    async def _admit(self, gateway: Gateway, name: str, at: Place) -> None:
        try:
            await gateway.add(await self._scorer(name, at))
        except UnreachedError:
            raise
        except (OSError, ValueError) as error:
            self._hopeless.add(name)
            log.error("%s is not answered for; mend this and start again: %s", name, error)

    async def _scorer(self, name: str, at: Place) -> Scorer:
        """A case's scorer, its memory filled."""
        assert at.online is not None, "_is_due() asks for it"
        settings, memory = self.settings, self._memory(name, at.online, at.folder)
        if count := await memory.fill(partial(settings.seed, name)):
            log.info("%s begins with a history of %d rows", name, count)
        return Scorer(name, at.online, self._backend, at.versions, at.folder, settings.options, self._metrics, memory)

    def _memory(self, name: str, online: Online, folder: Path) -> Memory:
        """In Redis only what is remembered: a case without a memory has nothing to share."""
        if not (self.settings.store and online.remembers):
            return Embedded(online, folder, self.settings.options.pace)
        from serving.gateway.history.redis_memory import (
            RedisMemory,  # here: who has no Redis does not wait for its client
        )

        options = self.settings.options
        count = lru_cache(lambda outcome: self._metrics.histories.labels(name, outcome))
        return RedisMemory(
            name,
            cast(Shareable, online),  # as every case is that remembers
            folder,
            self.settings.store,
            options.timeout,
            options.patience,
            lambda outcome: count(outcome).inc(),
        )

    def loaded(self) -> dict[str, int]:
        """The newest version that the model server answers with, by case; empty where the backend is elsewhere."""
        if self.app is None:
            return {}
        engine = self.app.engine
        return {name: engine.servable(name).version for name in self.settings.cases if engine.manager.loaded(name)}

    async def close(self) -> None:
        """Answers what is under way, then lets go of everything, the memory last."""
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

    async def _follow(self, app: App) -> None:
        """Has the engine load what the rollouts say; the gateway reads them by itself and bears either order."""
        while True:
            await asyncio.sleep(self.settings.server.poll)
            try:
                found = rollouts(self.settings.cases)
                if found != self._rollouts:
                    await app.engine.reload(models(self.settings.cases))
                    await self._assign(app, found)
                    self._rollouts = found
            except (OSError, ValueError, ServingError) as error:  # what was served goes on being served
                log.error("the rollout is not followed: %s", error)

    async def _assign(self, app: App, found: Mapping[str, Rollout]) -> None:
        """Labels name loaded versions only, so they come after these."""
        if any(one.wanted for one in found.values()):
            await app.engine.reload(models(self.settings.cases, labels=True))


def rollouts(cases: Mapping[str, Place]) -> dict[str, Rollout]:
    """What is to be served of each case.

    Raises:
        ValueError: if a file is damaged.
    """
    return {name: rollout.read(at.versions) for name, at in cases.items()}


def models(cases: Mapping[str, Place], labels: bool = False) -> list[Model]:
    """The rollouts as the engine has them: the newest version, or those that are wanted."""
    found = []
    for name, at in cases.items():
        wanted = rollout.read(at.versions)
        policy = "specific" if wanted.wanted else "latest"
        found.append(
            Model(name, str(at.versions), policy, specific=wanted.wanted, labels=wanted.labels if labels else {})
        )
    return found
