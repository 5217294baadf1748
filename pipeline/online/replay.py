"""Send traffic to a gateway and report the results."""

import asyncio
import dataclasses
import json
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import orjson

from models.catalog import find_use_case
from pipeline.home import Home
from pipeline.interruption import EXIT_CODE
from pipeline.online import rollouts
from pipeline.online.address import parse_address
from pipeline.terminal import make_console, make_progress_bar

LABELS = 500  # labels in one request


@dataclasses.dataclass(frozen=True)
class TrafficOptions:
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


def run_traffic(options: TrafficOptions, as_json: bool) -> int:
    """Send the case's rows to the gateway and print a report, also after Ctrl-C.

    Returns:
        The exit code: 0, 1 if a request failed or none was sent, or that of an interruption.

    Raises:
        ValueError: if there is no gateway or no data.
    """
    report, is_interrupted = _send_traffic(options)
    if as_json:
        print(json.dumps(report, indent=1))
    else:
        _print_report(report)
    return EXIT_CODE if is_interrupted else int(report["failed"] > 0 or not report["sent"])


def send_traffic(options: TrafficOptions) -> dict[str, Any]:
    """Send the case's rows to the gateway; return the report as plain values.

    Raises:
        ValueError: if there is no gateway or no data.
        KeyboardInterrupt: after Ctrl-C, once the requests in progress are answered and their labels are sent.
    """
    report, is_interrupted = _send_traffic(options)
    if is_interrupted:
        raise KeyboardInterrupt
    return report


def _send_traffic(options: TrafficOptions) -> tuple[dict[str, Any], bool]:
    from serving.http import asyncio_server

    case = find_use_case(options.case)
    if not case.has("traffic"):
        raise ValueError(f"{options.case} has no traffic to send: its package has no traffic.py.")
    host, port = _gateway_address(options)
    interruption = asyncio.Event()
    report, labels = asyncio_server.run(_send_rows(options, case.load("traffic"), host, port, interruption))
    counts = {"labels": labels.total(), "labels_known": labels["known"]}
    return report.plain() | counts, interruption.is_set()


def _gateway_address(options: TrafficOptions) -> tuple[str, int]:
    if options.address:
        return parse_address("--gateway", options.address.removeprefix("http://"))
    server = rollouts.find_running_server(options.home)
    if not server or not server["gateway"]:
        raise ValueError(f"No gateway of {options.home} is running; `showcase serve --home {options.home}` starts one.")
    return server["host"], server["gateway"]


async def _send_rows(
    options: TrafficOptions, module: Any, host: str, port: int, interruption: asyncio.Event
) -> tuple[Any, Counter[str]]:
    """Send rows, then the labels of those that were answered; return the report and the outcomes of the labels.

    SIGTERM ends the sending, and so does the first SIGINT, which also sets ``interruption``.
    """
    from serving.request_sender import Sender

    rows, label_by_request, labels = await asyncio.to_thread(_start_iterator, _load_rows(options, module)), {}, []
    stopped = asyncio.Event()
    if threading.current_thread() is threading.main_thread():  # only the main thread can handle signals
        loop = asyncio.get_running_loop()

        def interrupt() -> None:
            interruption.set()
            stopped.set()
            loop.remove_signal_handler(signal.SIGINT)  # a second one ends the command at once

        loop.add_signal_handler(signal.SIGTERM, stopped.set)
        loop.add_signal_handler(signal.SIGINT, interrupt)

    def bodies() -> Iterator[bytes]:
        for body, label in rows:
            if stopped.is_set():  # requests in progress are still answered and labelled
                return
            data = orjson.dumps(body)
            if options.labels and label is not None:
                label_by_request[data] = label
            yield data

    def collect_label(data: bytes, answer: dict[str, Any]) -> None:
        if data in label_by_request:
            labels.append({"prediction_id": answer["prediction_id"], **label_by_request.pop(data)})

    sender = Sender(host, port, f"/v1/{options.case}/score", module.check, collect_label)
    with make_progress_bar(make_console(stderr=True)) as bar:
        task = bar.add_task("sending", total=options.seconds or None)
        sending = asyncio.ensure_future(sender.run(bodies(), options.rate, options.connections, options.seconds))
        while not sending.done():
            await asyncio.wait({sending}, timeout=0.5)
            progress = sender.report
            failed_count = sum(progress.wrong.values()) + progress.statuses.total() - progress.statuses[200]
            bar.update(
                task,
                completed=progress.sent / (options.rate or 1),
                description=f"{progress.sent} sent, {failed_count} failed",
            )
        report = sending.result()
    return report, await _send_labels(host, port, labels)


async def _send_labels(host: str, port: int, labels: Sequence[dict[str, Any]]) -> Counter[str]:
    """Send labels in batches; return the number of stored labels by outcome."""
    from serving.request_sender import Sender

    outcomes = Counter[str]()

    def count(body: bytes, answer: dict[str, Any]) -> None:
        outcomes.update(label["outcome"] for label in answer["labels"])

    bodies = (orjson.dumps({"labels": labels[start : start + LABELS]}) for start in range(0, len(labels), LABELS))
    await Sender(host, port, "/labels/batch", lambda answer: None, count).run(bodies, 0, 1)
    return outcomes


def _start_iterator(rows: Iterator[Any]) -> Iterator[Any]:
    """Produce the first row, then return all rows: generating data takes long and must not count as request time."""
    first_row = next(rows, None)
    return rows if first_row is None else chain([first_row], rows)


def _load_rows(options: TrafficOptions, module: Any) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Return the rows of ``--data``, or those that the data of the last pushed run offers.

    Raises:
        ValueError: if no model has been pushed, or the data of the last pushed run is gone, and no other is given.
    """
    pushed = Home(options.home).pushed_runs(options.case)
    settings = find_use_case(options.case).configure({})["data"]
    source, window = "", (-1, -1)
    if pushed:
        settings = settings | pushed[-1].settings["data"]
        source, window = pushed[-1].source, pushed[-1].window
    if not options.data:
        _check_source(options, source)
    cache, bounds = options.home / "data", (options.first, options.last)
    return module.requests(options.data, source, cache, bounds, options.drift, settings, window)


def _check_source(options: TrafficOptions, source: str) -> None:
    if not source:
        raise ValueError(
            f"No model of {options.case} has been pushed under {options.home}, so there is no data to send from; "
            "name a folder of spans with --data."
        )
    if not Path(source).is_dir():
        raise ValueError(
            f"The data of the last pushed run of {options.case}, {source}, is not there; "
            "restore it, or name a folder of spans with --data."
        )


def _print_report(report: dict[str, Any]) -> None:
    console = make_console()
    times = ", ".join(f"{name} {value:.2f}" for name, value in report["milliseconds"].items())
    replayed = f", {report['replayed']} answered as when they were sent before" if report["replayed"] else ""
    console.print(
        f"{report['sent']} requests in {report['seconds']:.1f} s, {report['rate']:.0f}/s, "
        f"{report['failed']} failed{replayed}",
        soft_wrap=True,
    )
    console.print(f"milliseconds: {times or 'none'}")
    for name in ("statuses", "versions", "decisions", "wrong", "refusals"):
        if report[name]:
            counts = ", ".join(f"{key}: {value}" for key, value in report[name].items())
            console.print(f"{name}: {counts}", soft_wrap=True)
    repeated = f", {report['labels_known']} of them before" if report["labels_known"] else ""
    console.print(f"{report['labels']} labels stored{repeated}")
