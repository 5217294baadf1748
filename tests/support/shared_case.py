"""Gateways over a fake backend that share their history in Redis."""

from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from models.fraud.online_requests import Purchases
from models.image.online_requests import Pictures
from serving.gateway.gateway import Gateway
from serving.gateway.gateway_metrics import GatewayMetrics
from serving.gateway.model_calls.circuit_breaker import BreakerPolicy
from serving.gateway.scoring import ScoringOptions
from serving.gateway.stack import ServedCase, Stack, StackSettings
from support.gateway_case import FakeBackend, create_versions


class SharedGatewayStack(Stack):
    """Stack with both cases, with the fake backend and without a port."""

    def __init__(self, home: Path, url: str, options: ScoringOptions, seed: Callable[[str, Any], int]) -> None:
        cases = {}
        for name, online in (("fraud", Purchases()), ("image", Pictures())):
            folder = home / name / "versions"
            if not folder.exists():
                create_versions(folder)
            cases[name] = ServedCase(online, folder, home / name / "online")
        super().__init__(StackSettings(cases, backend="nowhere:1", options=options, seed=seed, store=url))
        self._backend = FakeBackend()

    async def gateway_alone(self) -> Gateway:
        self._metrics = GatewayMetrics()
        return Gateway({n: await self._scorer(n, at) for n, at in self.settings.cases.items()}, self._metrics).open()


QUICK = ScoringOptions(timeout=0.5, breaker_policy=BreakerPolicy(failures=3, seconds=0.1))


@asynccontextmanager
async def open_shared_gateway(
    home: Path, url: str, options: ScoringOptions | None = None, seed: Callable[[str, Any], int] = lambda *_: 0
):
    """Open a gateway that shares its history."""
    # A deadline that a busy machine meets, unless the test is about deadlines.
    gateway = await SharedGatewayStack(home, url, options or ScoringOptions(timeout=60.0), seed).gateway_alone()
    try:
        yield gateway
    finally:
        await gateway.close()
