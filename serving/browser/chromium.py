"""Headless Chromium controlled through its DevTools pipe, without an open port and without another package."""

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
MIN_DESCRIPTOR = 10  # pipe ends get at least this number, so that none is 3 or 4, which Chromium uses
# No host name resolves, so that a page that requests anything from outside fails.
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
    """A page threw an exception, or the browser reported an error."""


def find_browser() -> str:
    """Return the path of a browser.

    Raises:
        FileNotFoundError: if there is none; the message names the package to install.
    """
    for name in PROGRAMS:
        if path := shutil.which(name):
            return path
    raise FileNotFoundError(f"None of {', '.join(PROGRAMS)} is on PATH: `apt-get install chromium`.")


class Chromium:
    """One page in its own browser process.

    Attributes:
        requests: URLs that the page has requested, in order.
        console_errors: Errors that the browser has logged, such as violations of the content security policy.
    """

    def __init__(self, url: str, width: int = 1100, height: int = 900):
        self.requests: list[str] = []
        self.console_errors: list[str] = []
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        self._pid, self._write_end, self._read_end = _start(find_browser(), self._profile.name, (width, height))
        self._buffer, self._message_id, self._session, self._context, self._loaded = b"", 0, "", "", False
        try:
            self._open(url)
        except BaseException:
            self.close()
            raise

    def reopen(self, url: str) -> None:
        """Close the page and load an address in a new page with separate storage.

        This takes a tenth of the time of a new browser. ``requests`` and ``console_errors`` are cleared.
        """
        self._session = ""
        self._call("Target.disposeBrowserContext", {"browserContextId": self._context})
        self.requests, self.console_errors = [], []
        self._open(url)

    def __enter__(self) -> "Chromium":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def evaluate(self, expression: str, seconds: float = SECONDS) -> Any:
        """Evaluate a JavaScript expression in the page and return its value; a promise is awaited.

        Raises:
            PageError: if the expression throws; the message is the exception's.
            TimeoutError: if there is no value within ``seconds``.
        """
        parameters = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        parameters["allowUnsafeEvalBlockedByCSP"] = False  # the page's policy also applies to the expression
        response = self._call("Runtime.evaluate", parameters, seconds)
        if "exceptionDetails" in response:
            details = response["exceptionDetails"]
            raise PageError(details.get("exception", {}).get("description") or details["text"])
        return response["result"].get("value")

    def drag(self, points: Sequence[tuple[float, float]]) -> None:
        """Press the mouse button at the first point of the page, move over the others and release it at the last."""
        kinds = ["mousePressed", *["mouseMoved"] * (len(points) - 1), "mouseReleased"]
        for kind, (x, y) in zip(kinds, [*points, points[-1]], strict=True):
            button_state = {"button": "left", "buttons": int(kind != "mouseReleased"), "clickCount": 1}
            self._call("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, **button_state})

    def screenshot(self) -> bytes:
        """Return a screenshot of the page as PNG."""
        return base64.b64decode(self._call("Page.captureScreenshot", {"captureBeyondViewport": True})["data"])

    def close(self) -> None:
        """End the browser and all its processes."""
        for descriptor in (self._write_end, self._read_end):
            os.close(descriptor)
        with suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)  # the browser leads its own process group
        os.waitpid(self._pid, 0)
        self._profile.cleanup()

    def _open(self, url: str) -> None:
        self._context, self._loaded = self._call("Target.createBrowserContext")["browserContextId"], False
        parameters = {"url": "about:blank", "browserContextId": self._context}
        target = self._call("Target.createTarget", parameters)["targetId"]
        self._session = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")
        error_text = self._call("Page.navigate", {"url": url}).get("errorText")
        if error_text:
            raise PageError(f"{url}: {error_text}")
        deadline = time.monotonic() + SECONDS
        while not self._loaded:
            self._handle_event(self._read_message(deadline))

    def _call(self, method: str, params: Mapping[str, Any] | None = None, seconds: float = SECONDS) -> dict[str, Any]:
        self._message_id += 1
        message = {"id": self._message_id, "method": method, "params": params or {}}
        message |= {"sessionId": self._session} if self._session else {}
        data, deadline = json.dumps(message).encode() + b"\0", time.monotonic() + seconds
        while data:
            data = data[os.write(self._write_end, data) :]
        while (answer := self._read_message(deadline)).get("id") != self._message_id:
            self._handle_event(answer)
        if "error" in answer:
            raise PageError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _read_message(self, deadline: float) -> dict[str, Any]:
        """Read the next message, which ends with a zero byte."""
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read_end], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError("The browser did not answer before the timeout.")
            if not (chunk := os.read(self._read_end, 1 << 20)):
                raise PageError("The browser process has ended.")
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _handle_event(self, message: Mapping[str, Any]) -> None:
        if message.get("sessionId", "") != self._session:  # from a closed page
            return
        params = message.get("params", {})
        match message.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.console_errors.append(params["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.console_errors.append(params["exceptionDetails"]["text"])


def _start(path: str, profile: str, size: tuple[int, int]) -> tuple[int, int, int]:
    """Start the browser; return its process id, the descriptor to write to and the descriptor to read from.

    Chromium reads commands from descriptor 3 and writes responses to descriptor 4.
    """
    browser_read, our_write = map(_move_descriptor, os.pipe())
    our_read, browser_write = map(_move_descriptor, os.pipe())
    devnull = os.open(os.devnull, os.O_RDWR)
    flags = [*FLAGS, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}"]
    flags += ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's sandbox does not start as root
    inherited = (devnull, devnull, devnull, browser_read, browser_write)
    actions = [(os.POSIX_SPAWN_DUP2, source, target) for target, source in enumerate(inherited)]
    environment = {**os.environ, "HOME": profile}
    pid = os.posix_spawn(path, [path, *flags, "about:blank"], environment, file_actions=actions, setpgroup=0)
    for descriptor in (browser_read, browser_write, devnull):
        os.close(descriptor)
    return pid, our_write, our_read


def _move_descriptor(descriptor: int) -> int:
    duplicate = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, MIN_DESCRIPTOR)
    os.close(descriptor)
    return duplicate
