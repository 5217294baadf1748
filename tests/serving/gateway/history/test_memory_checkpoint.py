"""Checkpoints of a changing memory: consistent, atomic, and never ahead of the log."""

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
from support.gateway_case import FakeBackend, build_gateway, open_gateway, post, run, score_purchase
from support.programs import read_words_until_killed

from models.fraud.history import snapshot
from models.fraud.online_requests import Purchases
from serving.gateway.history import memory_checkpoint
from serving.gateway.history.embedded_memory import CheckpointSchedule
from serving.gateway.history.online_store import PREDICTIONS, OnlineStore, read_journal
from serving.gateway.log.log_files import DONE, LogPosition, file_number, read_log
from serving.gateway.log.prediction_log import LogLimits, LogWriteError
from serving.gateway.scoring import ScoringOptions

OFTEN = ScoringOptions(checkpoint_schedule=CheckpointSchedule(rows=20, seconds=1e9))
LABEL_TIME = "2026-01-06T00:00:00Z"


def change(online: Purchases, rng: np.random.Generator) -> None:
    """Add a random purchase of few customers at few merchants, or a label."""
    n = int(rng.integers(0, 10**6))
    row = [f"t{n}", n * 10**8, f"c{rng.integers(0, 9)}", f"m{rng.integers(0, 5)}", 1.0]
    online.learn(row, 1, row[1] + 5) if rng.random() < 0.3 else online.remember(row)


def normalize(state: dict) -> dict:
    """Return the state as JSON values, with sorted records."""
    return orjson.loads(orjson.dumps(state, option=orjson.OPT_SORT_KEYS))


@given(st.integers(0, 10**6), st.integers(0, 200), st.integers(1, 30), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_snapshot_ignores_changes_between_its_parts(seed: int, rows: int, part: int, between: int) -> None:
    rng, online, restored = np.random.default_rng(seed), Purchases(), Purchases()
    for _ in range(rows):
        change(online, rng)
    expected, size, snapshot.PART = copy.deepcopy(normalize(online.state())), snapshot.PART, part
    try:
        count = 0
        for piece in online.snapshot():
            restored.load(orjson.loads(orjson.dumps(piece)))
            count += 1
            for _ in range(between):
                change(online, rng)
    finally:
        snapshot.PART = size
    assert normalize(restored.state()) == expected
    assert count >= sum(len(record[0]) for record in expected["customers"].values()) / (part + 200)


def test_checkpoint_text_holds_the_labels_of_the_time_of_the_call(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(memory_checkpoint, "ENTRIES_PER_PIECE", 3)
    labelled = {n: n % 2 for n in range(10)}
    requests = [[n, 1, 10 * n] for n in range(7)]
    checkpoint = memory_checkpoint.Checkpoint(
        LogPosition(3, 4), LogPosition(5, 6), labelled, iter(requests), iter([{"a": 1}, None])
    )
    text = memory_checkpoint.encode_pieces(checkpoint)
    written = []
    for n, piece in enumerate(text):
        labelled[100 + n] = 1
        written.append(piece)
    memory_checkpoint.save(tmp_path / "new", written)
    loaded = memory_checkpoint.load(tmp_path / "new")
    assert (loaded.at, loaded.labels_at, loaded.states) == (checkpoint.at, checkpoint.labels_at, [{"a": 1}, None])
    assert (
        loaded.requests == requests
        and loaded.labelled == {n: n % 2 for n in range(10)}
        and memory_checkpoint.load(tmp_path) is None
    )


async def wait_until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def replay_log(folder: Path) -> Purchases:
    """Build a memory from the whole log, without a checkpoint."""
    online = Purchases()
    for _, record in read_log(folder / PREDICTIONS):
        online.remember(read_journal(record))
    return online


SCRIPT = """
import asyncio, sys
from pathlib import Path
from support.gateway_case import FakeBackend, build_gateway, score_purchase
from serving.gateway.history.embedded_memory import CheckpointSchedule
from serving.gateway.scoring import ScoringOptions

async def work():
    options = ScoringOptions(checkpoint_schedule=CheckpointSchedule(rows=20, seconds=1e9))
    gateway, n = build_gateway(Path(sys.argv[1]), FakeBackend(), options).open(), 0
    while True:
        each = [score_purchase(gateway, transaction_id=f"t{n + k}", customer_id=f"c{(n + k) % 7}") for k in range(8)]
        assert all(response.status == 200 for response, _ in await asyncio.gather(*each))
        print(*(f"t{n + k}" for k in range(8)), flush=True)
        n += 8
asyncio.run(work())
"""


@pytest.mark.system
def test_restore_after_kill_9_replays_the_tail_and_loses_no_acknowledged_row(tmp_path: Path) -> None:
    folder = tmp_path / "fraud" / "online"
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = ['tests', '.']{SCRIPT}", str(tmp_path)]
    acknowledged = read_words_until_killed(
        command, ROOT, lambda lines: len(lines) >= 80 and (folder / memory_checkpoint.FILE).exists()
    )
    log = [read_journal(record) for _, record in read_log(folder / PREDICTIONS)]
    assert {row[0] for row in log} >= set(acknowledged)
    store = OnlineStore(Purchases(), folder)
    restored = store.restore()
    assert restored.rows < len(log) and normalize(store.online.state()) == normalize(replay_log(folder).state())


def test_retention_keeps_the_log_files_after_the_checkpoint(tmp_path: Path) -> None:
    """The limits would remove every file; those that a restore needs after the newest checkpoint stay."""
    folder = tmp_path / "fraud" / "online"
    files = folder / PREDICTIONS

    async def send(gateway, start: int, count: int) -> None:
        for n in range(start, start + count):
            assert (await score_purchase(gateway, transaction_id=f"t{n}"))[0].status == 200

    async def work() -> Purchases:
        options = ScoringOptions(
            limits=LogLimits(file_bytes=2_000, keep_bytes=1),
            checkpoint_schedule=CheckpointSchedule(rows=10**9, seconds=1e9),
        )
        gateway = build_gateway(tmp_path, FakeBackend(), options).open()
        memory = gateway.scorers["fraud"].memory
        await send(gateway, 0, 30)
        numbers = sorted(file_number(path) for path in files.glob(f"*{DONE}"))
        assert len(numbers) > 5 and numbers[0] == 1  # there is no checkpoint yet
        await memory.checkpoint()
        needed = memory.store.replay_from
        await send(gateway, 30, 10)
        numbers = sorted(file_number(path) for path in files.glob(f"*{DONE}"))
        assert numbers == list(range(needed.file, numbers[-1] + 1)) and len(numbers) > 1
        store = OnlineStore(Purchases(), folder)
        assert store.restore().rows == 10
        assert normalize(store.online.state()) == normalize(gateway.scorers["fraud"].online.state())
        assert len(store.online.history.state()["customers"]["c1"][0]) == 40
        await gateway.close()

    run(work())


@pytest.mark.parametrize("fails", [False, True])
def test_checkpoint_waits_for_the_log_and_is_not_written_if_the_log_fails(
    tmp_path: Path, monkeypatch, fails: bool
) -> None:
    async def work():
        async with open_gateway(
            tmp_path, options=ScoringOptions(checkpoint_schedule=CheckpointSchedule(rows=10**9, seconds=1e9))
        ) as (gateway, _):
            scorer = gateway.scorers["fraud"]
            assert (await score_purchase(gateway, transaction_id="first"))[0].status == 200
            await scorer.memory.checkpoint()
            before, position = (
                (scorer.memory.store.folder / memory_checkpoint.FILE).read_bytes(),
                scorer.memory.store.replay_from,
            )
            disk_ready, write = asyncio.Event(), scorer.log._write
            loop = asyncio.get_running_loop()

            def slow_write(file: int, data: bytes) -> None:
                asyncio.run_coroutine_threadsafe(disk_ready.wait(), loop).result()
                if fails:
                    raise OSError(28, "No space left on device")
                write(file, data)

            monkeypatch.setattr(scorer.log, "_write", slow_write)
            request = asyncio.ensure_future(score_purchase(gateway, transaction_id="second"))
            await wait_until(lambda: scorer.log._busy)
            writing = asyncio.ensure_future(scorer.memory.checkpoint())
            await asyncio.sleep(0.1)
            assert not writing.done()
            assert (scorer.memory.store.folder / memory_checkpoint.FILE).read_bytes() == before
            disk_ready.set()
            if fails:
                with pytest.raises(LogWriteError):
                    await writing
                assert (await request)[0].status == 503 and scorer.memory.store.replay_from == position
                assert (scorer.memory.store.folder / memory_checkpoint.FILE).read_bytes() == before
            else:
                await writing
                assert (await request)[0].status == 200 and scorer.memory.store.replay_from > position

    run(work())


def test_checkpoint_is_retried_after_a_disk_error(tmp_path: Path, monkeypatch) -> None:
    calls, save = [], memory_checkpoint.save

    def save_failing_once(folder: Path, text) -> None:
        calls.append(folder)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        save(folder, text)

    async def work():
        async with open_gateway(tmp_path, options=OFTEN) as (gateway, _):
            store = gateway.scorers["fraud"].memory.store
            monkeypatch.setattr(memory_checkpoint, "save", save_failing_once)
            for start in (0, 25):
                for n in range(start, start + 25):
                    assert (await score_purchase(gateway, transaction_id=f"t{n}"))[0].status == 200
                await wait_until(lambda start=start: len(calls) > start / 25)
            await wait_until(lambda: store.replay_from > LogPosition())
            monkeypatch.undo()

    run(work())
    assert OnlineStore(Purchases(), tmp_path / "fraud" / "online").restore().rows == 0  # close() wrote a checkpoint


def test_label_being_written_is_either_in_the_checkpoint_or_replayed(tmp_path: Path, monkeypatch) -> None:
    async def work():
        async with open_gateway(
            tmp_path, options=ScoringOptions(checkpoint_schedule=CheckpointSchedule(rows=10**9, seconds=1e9))
        ) as (gateway, _):
            scorer = gateway.scorers["fraud"]
            _, answer = await score_purchase(gateway)
            disk_ready, loop, write = asyncio.Event(), asyncio.get_running_loop(), scorer.labels._write

            def slow_write(file: int, data: bytes) -> None:
                asyncio.run_coroutine_threadsafe(disk_ready.wait(), loop).result()
                write(file, data)

            monkeypatch.setattr(scorer.labels, "_write", slow_write)
            label = {"prediction_id": answer["prediction_id"], "label": 1, "label_time": LABEL_TIME}
            request = asyncio.ensure_future(post(gateway, "/labels", label))
            await wait_until(lambda: scorer.labels._busy)
            await scorer.memory.checkpoint()
            disk_ready.set()
            assert (await request)[1]["outcome"] == "kept"
            store = OnlineStore(Purchases(), scorer.memory.store.folder)  # as after a kill -9 at this time
            assert store.restore().labels == 1
            assert normalize(store.online.state()) == normalize(scorer.online.state())
            await scorer.memory.checkpoint()
            store = OnlineStore(Purchases(), scorer.memory.store.folder)
            assert store.restore().labels == 0 and store.labelled
            assert normalize(store.online.state()) == normalize(scorer.online.state())

    run(work())
