"""A new history in Redis is filled once, and never by a gateway that has lost its lock."""

import asyncio

import pytest
from support.gateway_case import run
from support.redis_server import RedisServer
from support.shared_case import open_shared_gateway

from models.fraud.online_requests import Purchases
from serving.gateway.history import redis_fill
from serving.gateway.history.memory import StoreUnavailableError
from serving.gateway.history.redis_client import make_client
from serving.gateway.history.redis_fill import HistoryFill

pytestmark = pytest.mark.system

PREFIX = "showcase:fraud:"
MERCHANT, LOCK = f"{PREFIX}merchant/m", f"{PREFIX}filling"
AHEAD = 4_000_000_000_000_000  # the seeded history ends far in the future


@pytest.fixture
def server(tmp_path):
    running = RedisServer(tmp_path, durable=False)
    yield running
    running.close()


def seed(online: Purchases, rows: int = 500) -> int:
    """Add purchases of ``rows`` customers at one merchant on one day."""
    for n in range(rows):
        online.remember([f"t{n}", 1_000_000 + n, f"c{n}", "m", 1.0])
    online.learn(["t0", 1_000_000, "c0", "m", 1.0], 1, 2_000_000)
    online._seeded = AHEAD
    return rows


async def fill(server: RedisServer, folder, seed_function=seed) -> int:
    """Fill the history as a separate gateway; return the number of rows added."""
    redis, _ = make_client(server.url)
    try:
        return await HistoryFill(redis, PREFIX, Purchases(), folder).run(seed_function)
    finally:
        await redis.aclose()
        await redis.connection_pool.disconnect()


def test_one_gateway_fills_and_all_load_the_end_of_the_history(tmp_path, server: RedisServer) -> None:
    calls = []

    def count_calls(name: str, online: Purchases) -> int:
        calls.append(name)
        return seed(online) if name == "fraud" else 0

    async def work():
        async def start_gateway(n: int) -> bool:
            async with open_shared_gateway(tmp_path / str(n), server.url, seed=count_calls) as gateway:
                online = gateway.scorers["fraud"].online
                assert not online.history.state()["customers"], "the gateway itself remembers nothing"
                return online._seeded == AHEAD

        return await asyncio.gather(*(start_gateway(n) for n in range(4)))

    assert run(work()) == [True] * 4 and calls.count("fraud") == 1
    assert server.redis.hgetall(MERCHANT) == {"0": "500", "0:0": "1"}
    assert len(server.redis.keys(f"{PREFIX}customer/*")) == 500 and not server.redis.exists(LOCK)


def test_lock_of_a_dead_gateway_expires_and_the_next_fills(tmp_path, server: RedisServer, monkeypatch) -> None:
    server.redis.set(LOCK, "dead", px=300)
    server.redis.hset(MERCHANT, mapping={"0": "7", "3": "9"})  # a partial fill
    monkeypatch.setattr(redis_fill, "POLL_SECONDS", 0.02)
    assert run(fill(server, tmp_path)) == 500
    assert server.redis.hgetall(MERCHANT) == {"0": "500", "0:0": "1"}


def test_delayed_gateway_overwrites_nothing(tmp_path, server: RedisServer) -> None:
    """Its lock has expired, another gateway has filled the history, and a purchase has been counted since."""

    def delayed_seed(online: Purchases) -> int:
        server.redis.delete(LOCK)
        run(fill(server, tmp_path / "other", lambda online: seed(online, 3)))
        server.redis.hincrby(MERCHANT, "0", 1)
        return seed(online)

    with pytest.raises(StoreUnavailableError, match="another gateway has taken over"):
        run(fill(server, tmp_path / "slow", delayed_seed))
    assert run(fill(server, tmp_path / "late")) == 0
    assert server.redis.hget(MERCHANT, "0") == "4" and len(server.redis.keys(f"{PREFIX}customer/*")) == 3


def test_failed_fill_releases_the_lock(tmp_path, server: RedisServer) -> None:
    def failing_seed(online: Purchases) -> int:
        raise ValueError("no spans")

    with pytest.raises(ValueError, match="no spans"):
        run(fill(server, tmp_path, failing_seed))
    assert run(asyncio.wait_for(fill(server, tmp_path), redis_fill.LOCK_MS / 2000)) == 500
