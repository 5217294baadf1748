"""What is known of a home at this moment, looked up once for all who look at it.

One task asks the file system what has changed, and the gateway what it counts; what is slow runs in a thread. Who looks at
a page waits for the next state, so that a hundred viewers cost one look.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models.catalog import CASES
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata.store_address import MetadataUnavailableError
from serving import rollout
from tour.live import cases as stores
from tour.live.cases import Case
from tour.live.events import Event, happened
from tour.live.traffic import PATIENCE, Scrapes, Traffic, fetch

EVERY, SELDOM = 0.5, 5.0  # seconds between two looks, while somebody looks on and while nobody does
LATELY = 15.0  # seconds for which somebody who looked still counts as looking on
RELOOK = 1.0  # seconds after which a store is read again while a run is under way
KEPT = 30  # events that are shown


@dataclass(frozen=True)
class State:
    """All that the System page shows."""

    cases: tuple[Case, ...] = ()
    gateway: str = ""
    traffic: tuple[tuple[str, Traffic], ...] = ()
    events: tuple[Event, ...] = ()
    problem: str = ""

    @property
    def flow(self) -> dict[str, Traffic]:
        """Traffic by case."""
        return dict(self.traffic)


class Watch:
    """Looks at a home while somebody is interested."""

    def __init__(self, home: Path, gateway: Callable[[], str]) -> None:
        self._home, self._gateway = home, gateway
        self.state, self.number = State(), 0
        self._news, self._closed = asyncio.Event(), False
        self._stamp: object = None
        self._scrapes, self._events = Scrapes(), deque[Event](maxlen=KEPT)
        self._task: asyncio.Task[None] | None = None
        self._looking, self._wanted, self._seen = asyncio.Lock(), asyncio.Event(), 0.0
        self._rendered: tuple[int, dict[str, str]] = (0, {})

    def start(self) -> None:
        """Begins to look, from the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def close(self) -> None:
        """Ends, and lets go all who wait."""
        self._closed = True
        self._news.set()
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def now(self) -> State:
        """The state; looked up first where nobody has looked yet."""
        self._look_on()
        if not self.number:
            await self.look()
        return self.state

    def rendered(self, render: Callable[[State], dict[str, str]]) -> dict[str, str]:
        """The state as it is shown, rendered once for all who look on."""
        if self._rendered[0] != self.number:
            self._rendered = (self.number, render(self.state))
        return self._rendered[1]

    async def after(self, number: int, seconds: float) -> bool:
        """Waits for a state newer than the one of that number, at most so long; False once it is over."""
        self._look_on()
        until = time.monotonic() + seconds
        while self.number <= number and not self._closed and (left := until - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), left)
        return not self._closed

    async def look(self) -> None:
        """Looks once."""
        async with self._looking:
            before, problem = self.state, ""
            cases = before.cases
            try:
                stamp = await asyncio.to_thread(
                    _stamp, self._home, any(one.run and one.run.state == "running" for one in cases)
                )
                if stamp != self._stamp or not self.number:
                    cases = await asyncio.to_thread(stores.read, self._home)
                    self._stamp = stamp
            except MetadataUnavailableError as error:
                problem = str(error)
            except Exception as error:  # a half-written file must not end the look; the next one finds it whole
                problem = f"{type(error).__name__}: {error}"
            gateway, traffic = await self._asked()
            self._events.extendleft(happened(before.cases, cases, before.gateway, gateway) if self.number else [])
            state = State(cases, gateway, traffic, tuple(self._events), problem)
            if state != before or not self.number:
                self.state, self.number = state, self.number + 1
                self._news.set()
                self._news = asyncio.Event()

    def _look_on(self) -> None:
        """Somebody is interested: looks are frequent from now on."""
        self._seen = time.monotonic()
        self._wanted.set()

    async def _asked(self) -> tuple[str, tuple[tuple[str, Traffic], ...]]:
        """Where the gateway is, and what goes through it; empty where none answers."""
        try:
            if address := self._gateway():
                self._scrapes.add(await fetch(address), time.monotonic())
                return address, tuple((name, self._scrapes.of(name)) for name in CASES)
        except TimeoutError:
            if time.monotonic() - self._scrapes.at < PATIENCE:
                return self.state.gateway, self.state.traffic
        except OSError:
            pass
        self._scrapes.clear()
        return "", ()

    async def _keep(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(EVERY)
            if time.monotonic() - self._seen > LATELY:
                self._wanted.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wanted.wait(), SELDOM)


def _stamp(home: Path, lively: bool) -> tuple[object, ...]:
    """What changes when something has happened; the time too where a process may end, or a server change, unseen."""
    runtime = local_runtime(home)
    file = runtime.metadata.file
    paths = [file] if file else []
    for name in CASES:
        folder = Path(runtime.versions(name))
        paths += [folder, folder / rollout.FILE, home / name / "online" / "monitor.json"]
    return (*(_changed(path) for path in paths), time.monotonic() // RELOOK if lively or not file else 0.0)


def _changed(path: Path) -> tuple[int, int] | None:
    try:
        told = path.stat()
    except OSError:
        return None
    return told.st_mtime_ns, told.st_size
