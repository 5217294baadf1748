"""A new history is filled once, whoever comes, and by nobody who was held up too long."""

import asyncio

import pytest
from support.gateway_case import run
from support.redis_server import Server
from support.shared_case import shared

from models.fraud.online import Purchases
from serving.gateway.history import redis_fill
from serving.gateway.history.memory import UnreachedError
from serving.gateway.history.redis_client import client
from serving.gateway.history.redis_fill import Filling

pytestmark = pytest.mark.system

PREFIX = "showcase:fraud:"
MERCHANT, LOCK = f"{PREFIX}merchant/m", f"{PREFIX}filling"
AHEAD = 4_000_000_000_000_000  # a history that reaches far into the future


@pytest.fixture
def server(tmp_path):
    running = Server(tmp_path, durable=False)
    yield running
    running.close()


def seed(online: Purchases, rows: int = 500) -> int:
    """So many purchases of as many customers at one merchant on one day."""
    for n in range(rows):
        online.remember([f"t{n}", 1_000_000 + n, f"c{n}", "m", 1.0])
    online.learn(["t0", 1_000_000, "c0", "m", 1.0], 1, 2_000_000)
    online._seeded = AHEAD
    return rows


async def filled(server: Server, folder, how=seed) -> int:
    """What a gateway of its own fills."""
    redis, _ = client(server.url)
    try:
        return await Filling(redis, PREFIX, Purchases(), folder).run(how)
    finally:
        await redis.aclose()
        await redis.connection_pool.disconnect()


def test_one_of_many_fills_and_all_know_how_far_it_reaches(tmp_path, server: Server) -> None:
    calls = []

    def counted(name: str, online: Purchases) -> int:
        calls.append(name)
        return seed(online) if name == "fraud" else 0

    async def work():
        async def one(n: int) -> bool:
            async with shared(tmp_path / str(n), server.url, seed=counted) as gateway:
                online = gateway.scorers["fraud"].online
                assert not online.history.state()["customers"], "the gateway itself remembers nothing"
                return online._seeded == AHEAD

        return await asyncio.gather(*(one(n) for n in range(4)))

    assert run(work()) == [True] * 4 and calls.count("fraud") == 1
    assert server.redis.hgetall(MERCHANT) == {"0": "500", "0:0": "1"}
    assert len(server.redis.keys(f"{PREFIX}customer/*")) == 500 and not server.redis.exists(LOCK)


def test_the_lock_of_one_that_died_ends_and_the_next_fills(tmp_path, server: Server, monkeypatch) -> None:
    server.redis.set(LOCK, "dead", px=300)
    server.redis.hset(MERCHANT, mapping={"0": "7", "3": "9"})  # half of what it meant to write
    monkeypatch.setattr(redis_fill, "POLL_SECONDS", 0.02)
    assert run(filled(server, tmp_path)) == 500
    assert server.redis.hgetall(MERCHANT) == {"0": "500", "0:0": "1"}


def test_one_that_was_held_up_writes_over_nothing(tmp_path, server: Server) -> None:
    """Its lock has ended, another has filled, and a gateway has counted since."""

    def held_up(online: Purchases) -> int:
        server.redis.delete(LOCK)
        run(filled(server, tmp_path / "other", lambda one: seed(one, 3)))
        server.redis.hincrby(MERCHANT, "0", 1)
        return seed(online)

    with pytest.raises(UnreachedError, match="another gateway has begun anew"):
        run(filled(server, tmp_path / "slow", held_up))
    assert run(filled(server, tmp_path / "late")) == 0
    assert server.redis.hget(MERCHANT, "0") == "4" and len(server.redis.keys(f"{PREFIX}customer/*")) == 3


def test_one_that_fails_leaves_the_place_to_the_next(tmp_path, server: Server) -> None:
    def fails(online: Purchases) -> int:
        raise ValueError("no spans")

    with pytest.raises(ValueError, match="no spans"):
        run(filled(server, tmp_path, fails))
    assert run(asyncio.wait_for(filled(server, tmp_path), redis_fill.LOCK_MS / 2000)) == 500
