"""Checkpoints of a memory that goes on changing: of one moment, whole or not at all, and never ahead of the log."""

import asyncio
import copy
import sys
import time
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.command import ROOT
from support.gateway_case import Simple, made, opened, post, run, score
from support.programs import told_before_kill_9

from models.fraud.history import snapshot
from models.fraud.online import Purchases
from serving.gateway.history import memory_checkpoint
from serving.gateway.history.embedded_memory import Pace
from serving.gateway.history.online_store import PREDICTIONS, OnlineStore, last
from serving.gateway.log.log_files import DONE, Place, number, read
from serving.gateway.log.prediction_log import Limits, UnwrittenError
from serving.gateway.scoring import Options

OFTEN = Options(pace=Pace(rows=20, seconds=1e9))
LABEL_TIME = "2026-01-06T00:00:00Z"


def change(online: Purchases, rng: np.random.Generator) -> None:
    """A purchase of few customers at few merchants, or a label."""
    n = int(rng.integers(0, 10**6))
    row = [f"t{n}", n * 10**8, f"c{rng.integers(0, 9)}", f"m{rng.integers(0, 5)}", 1.0]
    online.learn(row, 1, row[1] + 5) if rng.random() < 0.3 else online.remember(row)


def plain(state: dict) -> dict:
    """As JSON has it, whatever the order of the records."""
    return orjson.loads(orjson.dumps(state, option=orjson.OPT_SORT_KEYS))


@given(st.integers(0, 10**6), st.integers(0, 200), st.integers(1, 30), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_a_snapshot_is_the_state_of_its_moment_whatever_comes_between_its_parts(
    seed: int, rows: int, part: int, between: int
) -> None:
    rng, online, again = np.random.default_rng(seed), Purchases(), Purchases()
    for _ in range(rows):
        change(online, rng)
    expected, size, snapshot.PART = copy.deepcopy(plain(online.state())), snapshot.PART, part
    try:
        count = 0
        for found in online.snapshot():
            again.load(orjson.loads(orjson.dumps(found)))
            count += 1
            for _ in range(between):
                change(online, rng)
    finally:
        snapshot.PART = size
    assert plain(again.state()) == expected
    assert count >= sum(len(record[0]) for record in expected["customers"].values()) / (part + 200)


def test_the_text_is_json_and_holds_the_labels_of_its_moment(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(memory_checkpoint, "LABELS_A_PIECE", 3)
    labelled = {n: n % 2 for n in range(10)}
    told = memory_checkpoint.Checkpoint(Place(3, 4), Place(5, 6), labelled, iter([{"a": 1}, None]))
    text = memory_checkpoint.pieces(told)
    found = []
    for n, piece in enumerate(text):
        labelled[100 + n] = 1
        found.append(piece)
    memory_checkpoint.save(tmp_path / "new", found)
    read_again = memory_checkpoint.load(tmp_path / "new")
    assert (read_again.at, read_again.labels_at, read_again.states) == (told.at, told.labels_at, [{"a": 1}, None])
    assert read_again.labelled == {n: n % 2 for n in range(10)} and memory_checkpoint.load(tmp_path) is None


async def until(true) -> None:
    ends = time.monotonic() + 60
    while not true():
        assert time.monotonic() < ends
        await asyncio.sleep(0.02)


def replayed(folder: Path) -> Purchases:
    """A memory made from the whole log alone."""
    online = Purchases()
    for _, record in read(folder / PREDICTIONS):
        online.remember(orjson.loads(last(record)))
    return online


SCRIPT = """
import asyncio, sys
from pathlib import Path
from support.gateway_case import Simple, made, score
from serving.gateway.history.embedded_memory import Pace
from serving.gateway.scoring import Options

async def work():
    gateway, n = made(Path(sys.argv[1]), Simple(), Options(pace=Pace(rows=20, seconds=1e9))).open(), 0
    while True:
        each = [score(gateway, transaction_id=f"t{n + k}", customer_id=f"c{(n + k) % 7}") for k in range(8)]
        assert all(response.status == 200 for response, _ in await asyncio.gather(*each))
        print(*(f"t{n + k}" for k in range(8)), flush=True)
        n += 8
asyncio.run(work())
"""


@pytest.mark.system
def test_after_kill_9_only_the_tail_is_replayed_and_nothing_acknowledged_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "fraud" / "online"
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = ['tests', '.']{SCRIPT}", str(tmp_path)]
    acknowledged = told_before_kill_9(
        command, ROOT, lambda told: len(told) >= 80 and (folder / memory_checkpoint.FILE).exists()
    )
    log = [orjson.loads(last(record)) for _, record in read(folder / PREDICTIONS)]
    assert {row[0] for row in log} >= set(acknowledged)
    store = OnlineStore(Purchases(), folder)
    restored = store.restore()
    assert restored.rows < len(log) and plain(store.online.state()) == plain(replayed(folder).state())


def test_a_checkpoint_leaves_all_that_restores_and_lets_the_rest_go(tmp_path: Path) -> None:
    """Retention would remove everything: what the newest checkpoint needs stays, and what it does not need goes."""
    folder = tmp_path / "fraud" / "online"
    files = folder / PREDICTIONS

    async def scored(gateway, start: int, count: int) -> None:
        for n in range(start, start + count):
            assert (await score(gateway, transaction_id=f"t{n}"))[0].status == 200

    async def work() -> Purchases:
        options = Options(limits=Limits(file_bytes=2_000, keep_bytes=1), pace=Pace(rows=10**9, seconds=1e9))
        gateway = made(tmp_path, Simple(), options).open()
        memory = gateway.scorers["fraud"].memory
        await scored(gateway, 0, 30)
        there = sorted(number(path) for path in files.glob(f"*{DONE}"))
        assert len(there) > 5 and there[0] == 1  # no checkpoint holds any of it yet
        await memory.checkpoint()
        needed = memory.store.kept
        await scored(gateway, 30, 10)
        there = sorted(number(path) for path in files.glob(f"*{DONE}"))
        assert there == list(range(needed.file, there[-1] + 1)) and len(there) > 1
        again = OnlineStore(Purchases(), folder)
        assert again.restore().rows == 10
        assert plain(again.online.state()) == plain(gateway.scorers["fraud"].online.state())
        assert len(again.online.history.state()["customers"]["c1"][0]) == 40
        await gateway.close()

    run(work())


@pytest.mark.parametrize("fails", [False, True])
def test_a_checkpoint_waits_for_the_log_and_is_not_written_without_it(tmp_path: Path, monkeypatch, fails: bool) -> None:
    async def work():
        async with opened(tmp_path, options=Options(pace=Pace(rows=10**9, seconds=1e9))) as (gateway, _):
            scorer = gateway.scorers["fraud"]
            assert (await score(gateway, transaction_id="first"))[0].status == 200
            await scorer.memory.checkpoint()
            before, kept = (scorer.memory.store.folder / memory_checkpoint.FILE).read_bytes(), scorer.memory.store.kept
            disk, write = asyncio.Event(), scorer.log._write
            loop = asyncio.get_running_loop()

            def slow(file: int, data: bytes) -> None:
                asyncio.run_coroutine_threadsafe(disk.wait(), loop).result()
                if fails:
                    raise OSError(28, "No space left on device")
                write(file, data)

            monkeypatch.setattr(scorer.log, "_write", slow)
            asked = asyncio.ensure_future(score(gateway, transaction_id="second"))
            await until(lambda: scorer.log._busy)
            writing = asyncio.ensure_future(scorer.memory.checkpoint())
            await asyncio.sleep(0.1)
            assert not writing.done()
            assert (scorer.memory.store.folder / memory_checkpoint.FILE).read_bytes() == before
            disk.set()
            if fails:
                with pytest.raises(UnwrittenError):
                    await writing
                assert (await asked)[0].status == 503 and scorer.memory.store.kept == kept
                assert (scorer.memory.store.folder / memory_checkpoint.FILE).read_bytes() == before
            else:
                await writing
                assert (await asked)[0].status == 200 and scorer.memory.store.kept > kept

    run(work())


def test_a_disk_that_fails_once_costs_one_checkpoint(tmp_path: Path, monkeypatch) -> None:
    calls, save = [], memory_checkpoint.save

    def full_at_first(folder: Path, text) -> None:
        calls.append(folder)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        save(folder, text)

    async def work():
        async with opened(tmp_path, options=OFTEN) as (gateway, _):
            store = gateway.scorers["fraud"].memory.store
            monkeypatch.setattr(memory_checkpoint, "save", full_at_first)
            for start in (0, 25):
                for n in range(start, start + 25):
                    assert (await score(gateway, transaction_id=f"t{n}"))[0].status == 200
                await until(lambda start=start: len(calls) > start / 25)
            await until(lambda: store.kept > Place())
            monkeypatch.undo()

    run(work())
    assert OnlineStore(Purchases(), tmp_path / "fraud" / "online").restore().rows == 0  # closed in peace


def test_a_label_on_its_way_to_disk_is_in_the_checkpoint_or_in_what_is_replayed(tmp_path: Path, monkeypatch) -> None:
    async def work():
        async with opened(tmp_path, options=Options(pace=Pace(rows=10**9, seconds=1e9))) as (gateway, _):
            scorer = gateway.scorers["fraud"]
            _, told = await score(gateway)
            disk, loop, write = asyncio.Event(), asyncio.get_running_loop(), scorer.labels._write

            def slow(file: int, data: bytes) -> None:
                asyncio.run_coroutine_threadsafe(disk.wait(), loop).result()
                write(file, data)

            monkeypatch.setattr(scorer.labels, "_write", slow)
            label = {"prediction_id": told["prediction_id"], "label": 1, "label_time": LABEL_TIME}
            asked = asyncio.ensure_future(post(gateway, "/labels", label))
            await until(lambda: scorer.labels._busy)
            await scorer.memory.checkpoint()
            disk.set()
            assert (await asked)[1]["outcome"] == "kept"
            again = OnlineStore(Purchases(), scorer.memory.store.folder)  # as after kill -9 right now
            assert again.restore().labels == 1
            assert plain(again.online.state()) == plain(scorer.online.state())
            await scorer.memory.checkpoint()
            again = OnlineStore(Purchases(), scorer.memory.store.folder)
            assert again.restore().labels == 0 and again.labelled
            assert plain(again.online.state()) == plain(scorer.online.state())

    run(work())
