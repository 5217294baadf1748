"""Gateways over a fake backend that share their history in Redis."""

from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from models.fraud.online import Purchases
from models.image.online import Pictures
from serving.gateway.circuit_breaker import Patience
from serving.gateway.gateway import Gateway
from serving.gateway.gateway_metrics import Metrics
from serving.gateway.scoring import Options
from serving.gateway.stack import Place, Settings, Stack
from support.gateway_case import Simple, versions


class Gateways(Stack):
    """Stack with both cases, with the fake backend and without a port."""

    def __init__(self, home: Path, url: str, options: Options, seed: Callable[[str, Any], int]) -> None:
        cases = {}
        for name, online in (("fraud", Purchases()), ("image", Pictures())):
            folder = home / name / "versions"
            if not folder.exists():
                versions(folder)
            cases[name] = Place(online, folder, home / name / "online")
        super().__init__(Settings(cases, backend="nowhere:1", options=options, seed=seed, store=url))
        self._backend = Simple()

    async def gateway_alone(self) -> Gateway:
        self._metrics = Metrics()
        return Gateway({n: await self._scorer(n, at) for n, at in self.settings.cases.items()}, self._metrics).open()


QUICK = Options(timeout=0.5, patience=Patience(failures=3, seconds=0.1))


@asynccontextmanager
async def shared(home: Path, url: str, options: Options | None = None, seed: Callable[[str, Any], int] = lambda *_: 0):
    """Open a gateway that shares its history."""
    # A deadline that a busy machine meets, unless the test is about deadlines.
    gateway = await Gateways(home, url, options or Options(timeout=60.0), seed).gateway_alone()
    try:
        yield gateway
    finally:
        await gateway.close()
