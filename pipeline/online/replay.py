"""The command that sends traffic to a gateway and says what came of it."""

import asyncio
import dataclasses
import json
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.progress import Progress as Bar

from models.catalog import find
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.online import rollouts

LABELS = 500  # of a request


@dataclasses.dataclass(frozen=True)
class Replay:
    """What ``showcase traffic`` was asked for."""

    case: str
    home: Path
    data: str | None
    first: int
    last: int
    drift: Sequence[str]
    rate: float
    seconds: float
    connections: int
    address: str
    labels: bool


def traffic(asked: Replay, as_json: bool) -> int:
    """Sends the case's rows to the gateway; returns 1 if any request had no right answer.

    Raises:
        ValueError: if there is no gateway or no data.
    """
    plain = replayed(asked)
    if as_json:
        print(json.dumps(plain, indent=1))
    else:
        _print(plain)
    return int(plain["failed"] > 0 or not plain["sent"])


def replayed(asked: Replay) -> dict[str, Any]:
    """Sends the case's rows to the gateway; what came of them, as plain values.

    Raises:
        ValueError: if there is no gateway or no data.
    """
    from serving.http import asyncio_server

    case = find(asked.case)
    if not case.has("traffic"):
        raise ValueError(f"{asked.case} has no traffic: its package has no traffic.py.")
    host, port = _address(asked)
    report, labelled = asyncio_server.run(_send(asked, case.load("traffic"), host, port))
    return report.plain() | {"labels": labelled}


def _address(asked: Replay) -> tuple[str, int]:
    if asked.address:
        host, _, port = asked.address.removeprefix("http://").rpartition(":")
        if not port.isdigit():
            raise ValueError(f"--gateway takes HOST:PORT, not '{asked.address}'.")
        return host, int(port)
    there = rollouts.running(asked.home)
    if not there or not there["gateway"]:
        raise ValueError(f"No gateway of {asked.home} is running; `showcase serve --home {asked.home}` starts one.")
    return there["host"], there["gateway"]


async def _send(asked: Replay, module: Any, host: str, port: int) -> tuple[Any, int]:
    from serving.traffic import Sender

    rows, waiting, answered = await asyncio.to_thread(_begun, _rows(asked, module)), {}, []
    ids: set[str] = set()
    stopped = asyncio.Event()
    if threading.current_thread() is threading.main_thread():  # a thread gets no signals
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)

    def check(answer: Mapping[str, Any]) -> str | None:
        again = answer["prediction_id"] in ids
        ids.add(answer["prediction_id"])
        return "a prediction id that was there before" if again else module.check(answer)

    def bodies() -> Iterator[bytes]:
        for body, label in rows:
            if stopped.is_set():  # what is under way is answered, and labelled
                return
            data = orjson.dumps(body)
            if asked.labels and label is not None:
                waiting[data] = label
            yield data

    def seen(data: bytes, answer: dict[str, Any]) -> None:
        if data in waiting:
            answered.append({"prediction_id": answer["prediction_id"], **waiting.pop(data)})

    sender = Sender(host, port, f"/v1/{asked.case}/score", check, seen)
    console = Console(stderr=True)
    with Bar(
        console=console, transient=True, disable=not console.is_terminal
    ) as bar:  # elsewhere it would leave empty lines
        task = bar.add_task("sending", total=asked.seconds or None)
        work = asyncio.ensure_future(sender.run(bodies(), asked.rate, asked.connections, asked.seconds))
        while not work.done():
            await asyncio.wait({work}, timeout=0.5)
            done = sender.report
            bad = sum(done.wrong.values()) + done.statuses.total() - done.statuses[200]
            bar.update(task, completed=done.sent / (asked.rate or 1), description=f"{done.sent} sent, {bad} failed")
        report = work.result()
    return report, await _labelled(host, port, answered)


async def _labelled(host: str, port: int, told: Sequence[dict[str, Any]]) -> int:
    """Sends labels, many a request; how many are kept."""
    from serving.traffic import Sender

    kept = 0

    def count(body: bytes, answer: dict[str, Any]) -> None:
        nonlocal kept
        kept += len(answer["labels"])

    bodies = (orjson.dumps({"labels": told[at : at + LABELS]}) for at in range(0, len(told), LABELS))
    await Sender(host, port, "/labels/batch", lambda answer: None, count).run(bodies, 0, 1)
    return kept


def _begun(rows: Iterator[Any]) -> Iterator[Any]:
    """The rows, the first of them there: to make data takes long, and the clock of the requests must not run yet."""
    first = next(rows, None)
    return rows if first is None else chain([first], rows)


def _rows(asked: Replay, module: Any) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    pushed = [run for run in store.runs(local_runtime(asked.home).metadata, asked.case) if run.state == "pushed"]
    settings = find(asked.case).configured({})["data"]
    if pushed:
        settings = settings | json.loads(pushed[-1].facts["settings"])["data"]
    source = pushed[-1].facts["source"] if pushed else ""
    cache = asked.home / "data"
    return module.requests(asked.data, source, cache, asked.first, asked.last, asked.drift, settings)


def _print(plain: dict[str, Any]) -> None:
    console = Console()
    times = ", ".join(f"{name} {value:.2f}" for name, value in plain["milliseconds"].items())
    console.print(
        f"{plain['sent']} requests in {plain['seconds']:.1f} s, {plain['rate']:.0f}/s, {plain['failed']} failed",
        highlight=False,
    )
    console.print(f"milliseconds: {times or 'none'}", highlight=False)
    for name in ("statuses", "versions", "decisions", "wrong", "refusals"):
        if plain[name]:
            parts = ", ".join(f"{key}: {value}" for key, value in plain[name].items())
            console.print(f"{name}: {parts}", highlight=False, soft_wrap=True)
    console.print(f"{plain['labels']} labels kept", highlight=False)
