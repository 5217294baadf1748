"""A gateway over a fake backend that computes simple scores from the serialized examples, without TensorFlow."""

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from models.fraud.online_requests import Purchases
from models.image.online_requests import Pictures
from serving.gateway.gateway import Gateway
from serving.gateway.gateway_metrics import GatewayMetrics
from serving.gateway.log.log_files import read_log
from serving.gateway.log.tf_example import decode
from serving.gateway.model_calls.backend import PredictResult
from serving.gateway.scoring import Scorer, ScoringOptions
from serving.http.asyncio_server import Request, Response
from serving.status_errors import ServingError

THRESHOLD = 0.5
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PURCHASE = {
    "transaction_id": "t1",
    "event_time": "2026-01-05T12:00:00Z",
    "customer_id": "c1",
    "merchant_id": "m1",
    "amount": 100.0,
}
PICTURE = {"pixels": [[0, 255], [255, 0]]}
Fault = Callable[[str, int | None], None]


class FakeBackend:
    """Fake backend with versions 1 and 2; a purchase's score is amount / 1000, plus 0.01 in version 2."""

    def __init__(self) -> None:
        self.live, self.asked, self.delay = {1, 2}, [], 0.0
        self.fault: Fault = lambda model, version: None

    async def predict(
        self, model: str, examples: Sequence[bytes], version: int | None, timeout: float
    ) -> PredictResult:
        self.asked.append((model, version, len(examples)))
        self.fault(model, version)
        if self.delay:
            if self.delay > timeout:
                await asyncio.sleep(timeout)
                raise ServingError("DEADLINE_EXCEEDED", "Deadline Exceeded")
            await asyncio.sleep(self.delay)
        if version is not None and version not in self.live:
            raise ServingError("NOT_FOUND", f"Servable not found for request: Specific({model}, {version})")
        served_version = max(self.live) if version is None else version
        rows = [decode(row) for row in examples]
        if model == "image":
            share = np.array([row["brightness"][0] for row in rows], np.float32)
            return PredictResult(served_version, {"probabilities": np.stack([share, 1 - share], axis=1)})
        score = np.array([min(row["amount"][0] / 1000, 0.9) for row in rows], np.float32) + np.float32(
            0.01 * (served_version - 1)
        )
        decision = (score >= THRESHOLD).astype(np.float32)
        return PredictResult(
            served_version, {"score": score, "decision": decision, "anomaly": np.zeros(len(rows), np.float32)}
        )

    async def close(self) -> None:
        pass


def create_versions(folder: Path, *numbers: int) -> Path:
    """Create a folder of versions, each with an operating point."""
    for number in numbers or (1, 2):
        extra = folder / str(number) / "assets.extra"
        extra.mkdir(parents=True)
        (folder / str(number) / "saved_model.pb").write_bytes(b"")
        facts = {"operating_point": {"threshold": THRESHOLD}, "settings": {"classes": ["a", "b"]}}
        (extra / "model.json").write_text(json.dumps(facts))
    return folder


def build_gateway(home: Path, backend: Any, options: ScoringOptions | None = None) -> Gateway:
    """Create a gateway for both cases, without opening it."""
    metrics, options = GatewayMetrics(), options or ScoringOptions()
    cases = {"fraud": Purchases(), "image": Pictures()}
    scorers = {}
    for name, online in cases.items():
        folder = home / name / "versions"
        if not folder.exists():
            create_versions(folder)
        scorers[name] = Scorer(name, online, backend, folder, home / name / "online", options, metrics)
    return Gateway(scorers, metrics)


@asynccontextmanager
async def open_gateway(home: Path, backend: Any = None, options: ScoringOptions | None = None):
    """Open a gateway; yield it and its backend."""
    backend = backend or FakeBackend()
    gateway = build_gateway(home, backend, options).open()
    try:
        yield gateway, backend
    finally:
        await gateway.close()


async def post(gateway: Gateway, path: str, body: Any, query: str = "", **headers: str) -> tuple[Response, Any]:
    """Post a body; return the response and its JSON."""
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    response = await gateway(Request("POST", path, query, headers, data))
    return response, orjson.loads(response.body)


async def score_purchase(gateway: Gateway, query: str = "", **changes: Any) -> tuple[Response, Any]:
    """Score the purchase ``PURCHASE`` with changes."""
    return await post(gateway, "/v1/fraud/score", PURCHASE | changes, query)


def run(work):
    return asyncio.run(work)


def read_logged_rows(home, case="fraud", folder="predictions"):
    return [decode(data) for _, data in read_log(home / case / "online" / folder)]
