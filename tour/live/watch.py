"""The current state of a home, read once for all viewers.

One task checks which files have changed and scrapes the gateway; slow reads run in a thread. Pages wait for the next
state, so that a hundred viewers cost one read.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models.catalog import CASES
from pipeline.home import Home
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata.store_address import MetadataUnavailableError
from serving import rollout
from tour.live import cases as stores
from tour.live.cases import CaseState
from tour.live.events import Event, find_changes
from tour.live.gateway_counters import GONE_AFTER, Scrapes, Traffic, fetch

POLL_SECONDS = 0.5  # seconds between two reads while there are viewers
IDLE_SECONDS = 5.0  # seconds between two reads without viewers
VIEWER_SECONDS = 15.0  # seconds after its last request for which a viewer counts as present
STORE_SECONDS = 1.0  # seconds between two reads of the store while a run is in progress
MAX_EVENTS = 30  # number of events shown


@dataclass(frozen=True)
class HomeState:
    """Everything that the System page shows."""

    cases: tuple[CaseState, ...] = ()
    gateway: str = ""
    traffic: tuple[tuple[str, Traffic], ...] = ()
    events: tuple[Event, ...] = ()
    problem: str = ""

    @property
    def flow(self) -> dict[str, Traffic]:
        return dict(self.traffic)


class HomeWatcher:
    """Polls the state of a home, frequently while there are viewers."""

    def __init__(self, home: Path, gateway: Callable[[], str]) -> None:
        self._home, self._gateway = home, gateway
        self.state, self.number = HomeState(), 0
        self._changed_event, self._closed = asyncio.Event(), False
        self._stamp: object = None
        self._scrapes, self._events = Scrapes(), deque[Event](maxlen=MAX_EVENTS)
        self._task: asyncio.Task[None] | None = None
        self._reading, self._viewed, self._last_viewed = asyncio.Lock(), asyncio.Event(), 0.0
        self._rendered: tuple[int, dict[str, str]] = (0, {})

    def start(self) -> None:
        """Start polling; call it in the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._poll())

    async def close(self) -> None:
        """Stop polling, and release all waiting pages."""
        self._closed = True
        self._changed_event.set()
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def now(self) -> HomeState:
        """The current state; reads it if nothing has been read yet."""
        self._note_viewer()
        if not self.number:
            await self.refresh()
        return self.state

    def render_once(self, render: Callable[[HomeState], dict[str, str]]) -> dict[str, str]:
        """The state rendered as parts of the page, once per state for all viewers."""
        if self._rendered[0] != self.number:
            self._rendered = (self.number, render(self.state))
        return self._rendered[1]

    async def after(self, number: int, seconds: float) -> bool:
        """Wait at most ``seconds`` for a state newer than ``number``; return False if polling has stopped."""
        self._note_viewer()
        deadline = time.monotonic() + seconds
        while self.number <= number and not self._closed and (remaining := deadline - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed_event.wait(), remaining)
        return not self._closed

    async def refresh(self) -> None:
        async with self._reading:
            previous, problem = self.state, ""
            cases = previous.cases
            try:
                stamp = await asyncio.to_thread(
                    _read_stamp, self._home, any(case.run and case.run.state == "running" for case in cases)
                )
                if stamp != self._stamp or not self.number:
                    cases = await asyncio.to_thread(stores.read_cases, self._home)
                    self._stamp = stamp
            except MetadataUnavailableError as error:
                problem = str(error)
            except Exception as error:  # a half-written file must not stop polling; the next read finds it complete
                problem = f"{type(error).__name__}: {error}"
            gateway, traffic = await self._scrape()
            self._events.extendleft(
                find_changes(previous.cases, cases, previous.gateway, gateway) if self.number else []
            )
            state = HomeState(cases, gateway, traffic, tuple(self._events), problem)
            if state != previous or not self.number:
                self.state, self.number = state, self.number + 1
                self._changed_event.set()
                self._changed_event = asyncio.Event()

    def _note_viewer(self) -> None:
        """Record a viewer, so that reads are frequent from now on."""
        self._last_viewed = time.monotonic()
        self._viewed.set()

    async def _scrape(self) -> tuple[str, tuple[tuple[str, Traffic], ...]]:
        """Address of the gateway and traffic by case; empty if no gateway answers."""
        try:
            if address := self._gateway():
                self._scrapes.add(await fetch(address), time.monotonic())
                return address, tuple((name, self._scrapes.of(name)) for name in CASES)
        except TimeoutError:
            if time.monotonic() - self._scrapes.at < GONE_AFTER:
                return self.state.gateway, self.state.traffic
        except OSError:
            pass
        self._scrapes.clear()
        return "", ()

    async def _poll(self) -> None:
        while True:
            await self.refresh()
            await asyncio.sleep(POLL_SECONDS)
            if time.monotonic() - self._last_viewed > VIEWER_SECONDS:
                self._viewed.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._viewed.wait(), IDLE_SECONDS)


def _read_stamp(home: Path, is_running: bool) -> tuple[object, ...]:
    """A value that changes whenever the state may have changed.

    It includes the time if a process may end, or a remote metadata store change, without a change of a file.
    """
    runtime = local_runtime(home)
    file = runtime.metadata.file
    paths = [file] if file else []
    for name in CASES:
        folder = runtime.case(name).versions
        paths += [folder, folder / rollout.FILE, Home(home).case(name).monitor_state]
    return (
        *(_file_stamp(path) for path in paths),
        time.monotonic() // STORE_SECONDS if is_running or not file else 0.0,
    )


def _file_stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size
