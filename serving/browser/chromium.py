"""A headless Chromium, driven through its DevTools pipe: no port is opened and no package is needed."""

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 60.0
ABOVE = 10  # descriptors from here on, so that none is one of the two that Chromium reads
# Names are resolved by nobody, so that a page that wants something from outside fails.
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
FLAGS = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-proxy-server",
    OFFLINE,
)


class PageError(RuntimeError):
    """What a page threw."""


def program() -> str:
    """Path of a browser.

    Raises:
        FileNotFoundError: if there is none, naming what to install.
    """
    for name in PROGRAMS:
        if path := shutil.which(name):
            return path
    raise FileNotFoundError(f"None of {', '.join(PROGRAMS)} is on PATH: `apt-get install chromium`.")


class Chromium:
    """One page in a browser of its own.

    Attributes:
        requests: Every address that the page has asked for, in order.
        complaints: What the browser logged as an error, such as a breach of the content policy.
    """

    def __init__(self, url: str, width: int = 1100, height: int = 900):
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        self._pid, self._write, self._read = _start(program(), self._profile.name, (width, height))
        self._waiting, self._number, self._session, self._context, self._loaded = b"", 0, "", "", False
        try:
            self._open(url)
        except BaseException:
            self.close()
            raise

    def reopen(self, url: str) -> None:
        """Close the page and load an address in a new page with separate storage.

        This takes a tenth of the time of a new browser. ``requests`` and ``complaints`` are cleared.
        """
        self._session = ""
        self._call("Target.disposeBrowserContext", {"browserContextId": self._context})
        self.requests, self.complaints = [], []
        self._open(url)

    def __enter__(self) -> "Chromium":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def evaluate(self, expression: str, seconds: float = SECONDS) -> Any:
        """The value of a JavaScript expression, a promise awaited.

        Raises:
            PageError: with what was thrown.
            TimeoutError: if there is no value in time.
        """
        asked = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        asked["allowUnsafeEvalBlockedByCSP"] = False  # the page's policy holds for what is asked of it too
        told = self._call("Runtime.evaluate", asked, seconds)
        if "exceptionDetails" in told:
            details = told["exceptionDetails"]
            raise PageError(details.get("exception", {}).get("description") or details["text"])
        return told["result"].get("value")

    def drag(self, points: Sequence[tuple[float, float]]) -> None:
        """Presses the mouse at the first point of the page, moves over the others and lets go at the last."""
        kinds = ["mousePressed", *["mouseMoved"] * (len(points) - 1), "mouseReleased"]
        for kind, (x, y) in zip(kinds, [*points, points[-1]], strict=True):
            held = {"button": "left", "buttons": int(kind != "mouseReleased"), "clickCount": 1}
            self._call("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, **held})

    def screenshot(self) -> bytes:
        """The page as it looks, a PNG."""
        return base64.b64decode(self._call("Page.captureScreenshot", {"captureBeyondViewport": True})["data"])

    def close(self) -> None:
        """Ends the browser with all its processes."""
        for descriptor in (self._write, self._read):
            os.close(descriptor)
        with suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)  # it leads a group of its own
        os.waitpid(self._pid, 0)
        self._profile.cleanup()

    def _open(self, url: str) -> None:
        self._context, self._loaded = self._call("Target.createBrowserContext")["browserContextId"], False
        parameters = {"url": "about:blank", "browserContextId": self._context}
        target = self._call("Target.createTarget", parameters)["targetId"]
        self._session = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")
        failed = self._call("Page.navigate", {"url": url}).get("errorText")
        if failed:
            raise PageError(f"{url}: {failed}")
        until = time.monotonic() + SECONDS
        while not self._loaded:
            self._event(self._message(until))

    def _call(self, method: str, params: Mapping[str, Any] | None = None, seconds: float = SECONDS) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params or {}}
        message |= {"sessionId": self._session} if self._session else {}
        data, until = json.dumps(message).encode() + b"\0", time.monotonic() + seconds
        while data:
            data = data[os.write(self._write, data) :]
        while (answer := self._message(until)).get("id") != self._number:
            self._event(answer)
        if "error" in answer:
            raise PageError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _message(self, until: float) -> dict[str, Any]:
        """The next message, which ends with a zero byte."""
        while b"\0" not in self._waiting:
            ready, _, _ = select.select([self._read], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise TimeoutError("The browser gave no answer in time.")
            if not (more := os.read(self._read, 1 << 20)):
                raise PageError("The browser has ended.")
            self._waiting += more
        message, _, self._waiting = self._waiting.partition(b"\0")
        return json.loads(message)

    def _event(self, message: Mapping[str, Any]) -> None:
        if message.get("sessionId", "") != self._session:  # of a page that was closed
            return
        params = message.get("params", {})
        match message.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.complaints.append(params["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.complaints.append(params["exceptionDetails"]["text"])


def _start(path: str, profile: str, size: tuple[int, int]) -> tuple[int, int, int]:
    """Process, descriptor to write to it and descriptor to read from it: Chromium reads from 3 and writes to 4."""
    its_read, our_write = map(_moved, os.pipe())
    our_read, its_write = map(_moved, os.pipe())
    quiet = os.open(os.devnull, os.O_RDWR)
    flags = [*FLAGS, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}"]
    flags += ["--no-sandbox"] if os.geteuid() == 0 else []  # its sandbox refuses root
    actions = [
        (os.POSIX_SPAWN_DUP2, one, number) for number, one in enumerate((quiet, quiet, quiet, its_read, its_write))
    ]
    environment = {**os.environ, "HOME": profile}
    pid = os.posix_spawn(path, [path, *flags, "about:blank"], environment, file_actions=actions, setpgroup=0)
    for descriptor in (its_read, its_write, quiet):
        os.close(descriptor)
    return pid, our_write, our_read


def _moved(descriptor: int) -> int:
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, ABOVE)
    os.close(descriptor)
    return moved
