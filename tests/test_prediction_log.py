"""The log against TensorFlow's reader, against torn and damaged files, full disks and kill -9."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from serving import records
from serving.log_files import DONE, OPEN, TORN, Place, after, find, read, recovered
from serving.prediction_log import Limits, PredictionLog, UnwrittenError, written
from serving.wire import Encoder, decode, entry, example, first

FLOATS = st.floats(width=32, allow_nan=False)
WHOLE = st.integers(-(2**63), 2**63 - 1)
VALUES = st.one_of(
    st.binary(max_size=40), st.text(max_size=40), WHOLE, FLOATS, st.lists(st.binary(max_size=300), min_size=1, max_size=9),
    st.lists(FLOATS, min_size=1, max_size=9), st.lists(WHOLE, min_size=1, max_size=9),
)  # fmt: skip


def run(*steps):
    """Awaits what an async function gives, in a loop of its own."""
    return asyncio.run(*steps)


async def kept(log: PredictionLog, *data: bytes) -> list[Place]:
    """Appends, waits, and says where."""
    places, groups = [], set()
    for one in data:
        places.append(log.place)
        groups.add(log.append(one))
    for group in groups:
        await group
    return places


def everything(folder: Path) -> list[bytes]:
    return [data for _, data in read(folder)]


# Records and examples.


@settings(deadline=None)  # the first call imports TensorFlow
@given(st.dictionaries(st.text(min_size=1, max_size=20), VALUES, max_size=8), st.lists(FLOATS, min_size=2, max_size=2))
def test_an_example_is_the_one_that_tensorflow_reads(features, numbers):
    import tensorflow as tf

    scalars = {"amount": numbers[0], "x" * 200: numbers}
    data = example(Encoder({"amount": 1, "x" * 200: 2})(features | scalars))
    parsed = tf.train.Example.FromString(data).features.feature
    found = {name: list(getattr(value, value.WhichOneof("kind")).value) for name, value in parsed.items()}
    assert found == decode(data)
    for name, value in (features | scalars).items():
        values = value if isinstance(value, list) else [value]
        assert found[name] == [one.encode() if isinstance(one, str) else one for one in values]


def test_entries_behind_make_one_example_and_none_is_left_out():
    data = example(entry("a", 1.5), entry("b", None), entry("c", "last"))
    assert decode(data) == {"a": [1.5], "c": [b"last"]}
    assert first(data, data.index(b"\x01c\x12") + 2) == b"last"


@pytest.mark.parametrize("data", [b"\x0a\x05abc", b"\x0a", b"\xff" * 20, b"\x0a\x03\x0a\x01\x08"])
def test_what_is_no_example_is_refused(data):
    with pytest.raises(ValueError, match=r"no serialized tf\.Example"):
        decode(data)


def test_tensorflow_reads_the_files_and_we_read_tensorflows(tmp_path):
    import tensorflow as tf

    data = [os.urandom(size) for size in (0, 1, 100, 70_000)]

    async def write():
        log = PredictionLog(tmp_path / "log").open()
        await kept(log, *data)
        await log.close()

    run(write())
    files = [str(path) for path in sorted((tmp_path / "log").glob(f"*{DONE}"))]
    assert [one.numpy() for one in tf.data.TFRecordDataset(files)] == data == everything(tmp_path / "log")
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for one in data:
            writer.write(one)
    assert [one for _, one in records.read(tmp_path / "theirs")] == data


# A writer.


def test_a_group_is_one_write_and_what_is_done_is_on_disk(tmp_path):
    calls = []

    def slow(file: int, data: bytes) -> None:
        calls.append(len(data))
        time.sleep(0.02)
        written(file, data)

    async def work():
        log = PredictionLog(tmp_path, write=slow).open()
        groups = {log.append(b"first")}
        await asyncio.sleep(0.005)  # the first is being written
        groups |= {log.append(b"%d" % n) for n in range(50)}
        assert len(groups) == 2 and log.lag == 50
        await asyncio.gather(*groups)
        assert everything(tmp_path) == [b"first", *(b"%d" % n for n in range(50))]
        assert (log.records, log.groups, log.lag) == (51, 2, 0)
        await log.close()

    run(work())
    assert len(calls) == 2


def test_a_group_waits_for_those_under_way_and_not_for_ever(tmp_path):
    async def work():
        under_way = 3
        log = PredictionLog(tmp_path, expected=lambda: under_way).open()
        one = log.append(b"one")
        await asyncio.sleep(0)
        two = log.append(b"two")
        assert one is two is log.append(b"three")  # the third makes it whole
        await one
        assert (log.records, log.groups) == (3, 1)
        await log.append(b"alone")  # two others are under way and never come
        assert (log.records, log.groups) == (4, 2)
        under_way = 1
        await log.append(b"last")
        await log.close()

    run(work())
    assert everything(tmp_path) == [b"one", b"two", b"three", b"alone", b"last"]


def test_a_record_is_found_by_its_place_while_the_file_is_open_and_after(tmp_path):
    async def work():
        log = PredictionLog(tmp_path, Limits(file_bytes=100)).open()
        data = [b"%03d" % n * 10 for n in range(20)]
        places = [(await kept(log, one))[0] for one in data]
        assert [find(tmp_path, place) for place in places] == data
        await log.close()
        assert [find(tmp_path, place) for place in places] == data
        assert len({place.file for place in places}) > 3
        assert find(tmp_path, Place(places[0].file, places[0].offset + 1)) is None
        assert find(tmp_path, Place(999, 0)) is None and find(tmp_path, Place(1, 10**9)) is None
        assert [place for place, _ in read(tmp_path)] == places
        assert [one for _, one in read(tmp_path, after(places[4], data[4]))] == data[5:]

    run(work())


def test_files_rotate_by_size_and_by_age_and_readers_see_whole_ones(tmp_path):
    async def by(limits: Limits, count: int, pause: float) -> int:
        folder = tmp_path / str(limits.file_bytes)
        log = PredictionLog(folder, limits).open()
        for n in range(count):
            await kept(log, b"%04d" % n * 25)
            await asyncio.sleep(pause)
        closed = len(list(folder.glob(f"*{DONE}")))
        await log.close()
        assert everything(folder) == [b"%04d" % n * 25 for n in range(count)]
        return closed

    assert run(by(Limits(file_bytes=117), 10, 0)) == 5  # a record is 116 bytes: the second fills a file
    assert run(by(Limits(file_bytes=116), 10, 0)) == 10
    assert run(by(Limits(file_bytes=10**6), 10, 0)) == 0
    assert run(by(Limits(file_bytes=10**5, file_seconds=0.01), 4, 0.02)) >= 3


def test_retention_removes_the_oldest_and_nothing_that_is_needed(tmp_path):
    async def work(limits: Limits, needed: int) -> list[int]:
        folder = tmp_path / f"{limits.keep_bytes}-{limits.keep_seconds}-{needed}"
        log = PredictionLog(folder, limits, removable=lambda number: number < needed).open()
        for n in range(10):
            await kept(log, b"%02d" % n * 50)
        left = [int(path.stem) for path in log.files()]
        await log.close()
        return left

    size = 116
    assert run(work(Limits(file_bytes=1, keep_bytes=3 * size, keep_seconds=0), 99)) == [8, 9, 10]
    assert run(work(Limits(file_bytes=1, keep_bytes=3 * size, keep_seconds=0), 5)) == [5, 6, 7, 8, 9, 10]
    assert run(work(Limits(file_bytes=1, keep_bytes=0, keep_seconds=0), 99)) == list(range(1, 11))
    assert run(work(Limits(file_bytes=1, keep_bytes=0, keep_seconds=1e-9), 99)) == []


def test_a_folder_has_one_writer(tmp_path):
    async def work():
        log = PredictionLog(tmp_path).open()
        with pytest.raises(OSError, match="Another process"):
            PredictionLog(tmp_path).open()
        await log.close()
        await PredictionLog(tmp_path).open().close()

    run(work())


# A disk that fails.


@pytest.mark.parametrize("partial", [0, 7, 10**6])
def test_a_full_disk_refuses_what_it_cannot_keep_and_loses_nothing_that_it_kept(tmp_path, partial):
    full = False

    def write(file: int, data: bytes) -> None:
        if full:
            os.write(file, data[:partial])
            raise OSError(errno.ENOSPC, "No space left on device")
        written(file, data)

    async def work():
        nonlocal full
        log = PredictionLog(tmp_path, write=write).open()
        await kept(log, b"one", b"two")
        full = True
        for _ in range(3):
            with pytest.raises(UnwrittenError, match="No space left"):
                await log.append(b"lost")
        full = False
        (place,) = await kept(log, b"three")
        assert find(tmp_path, place) == b"three"
        await log.close()

    run(work())
    assert everything(tmp_path) == [b"one", b"two", b"three"]


def test_who_waits_behind_a_failed_write_is_told_too(tmp_path):
    def write(file: int, data: bytes) -> None:
        time.sleep(0.02)
        raise OSError(errno.EIO, "Input/output error")

    async def work():
        log = PredictionLog(tmp_path, write=write).open()
        one = log.append(b"one")
        await asyncio.sleep(0.005)
        two = log.append(b"two")
        for group in (one, two):
            with pytest.raises(UnwrittenError):
                await group
        await log.close()

    run(work())
    assert everything(tmp_path) == []


def test_a_disk_that_takes_no_new_file_is_tried_again(tmp_path, monkeypatch):
    async def work():
        log = PredictionLog(tmp_path, Limits(file_bytes=1)).open()
        begin = log._begin
        monkeypatch.setattr(log, "_begin", lambda file: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space")))
        with pytest.raises(UnwrittenError):
            await log.append(b"one")
        with pytest.raises(UnwrittenError):
            await log.append(b"two")
        monkeypatch.setattr(log, "_begin", begin)
        (place,) = await kept(log, b"three")
        assert find(tmp_path, place) == b"three"
        await log.close()

    run(work())
    assert b"three" in everything(tmp_path) and b"two" not in everything(tmp_path)


# What a crash leaves.


@pytest.mark.parametrize("cut", [1, 4, 11, 12, 20, 35])
def test_a_torn_tail_is_cut_off_and_kept_beside(tmp_path, cut):
    whole = records.framed(b"kept" * 4)
    torn = records.framed(b"torn" * 5)[:cut]
    path = tmp_path / f"00000007{OPEN}"
    path.write_bytes(whole + torn)
    assert [data for _, data in read(tmp_path)] == [b"kept" * 4]

    async def work():
        log = PredictionLog(tmp_path).open()
        assert log.torn_bytes == cut and log.place == Place(8, 0)
        await kept(log, b"next")
        await log.close()

    run(work())
    assert everything(tmp_path) == [b"kept" * 4, b"next"]
    assert path.with_suffix(TORN).read_bytes() == torn


def test_a_whole_tail_is_kept_and_an_empty_file_goes(tmp_path):
    full, empty = tmp_path / f"1{OPEN}", tmp_path / f"2{OPEN}"
    full.write_bytes(records.framed(b"x"))
    empty.write_bytes(b"")
    assert recovered(full) == recovered(empty) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"1{DONE}"]


@pytest.mark.parametrize("at", range(0, 40, 3))
def test_a_flipped_bit_in_a_closed_file_is_found(tmp_path, at):
    data = bytearray(records.framed(b"a" * 8) + records.framed(b"b" * 8))
    data[at] ^= 4
    path = tmp_path / f"00000001{DONE}"
    path.write_bytes(data)
    with pytest.raises(records.CorruptError, match="is damaged at byte") as caught:
        list(read(tmp_path))
    assert caught.value.offset == (0 if at < 24 else 24)


WRITER = """
import asyncio, sys
from pathlib import Path
from serving.prediction_log import PredictionLog, Limits
async def client(log, name):
    n = 0
    while True:
        data = f"{name}:{n}".encode().ljust(200)
        await log.append(data)
        sys.stdout.write(f"{name}:{n}\\n"); sys.stdout.flush()
        n += 1
async def main():
    log = PredictionLog(Path(sys.argv[1]), Limits(file_bytes=20_000)).open()
    await asyncio.gather(*(client(log, name) for name in range(8)))
asyncio.run(main())
"""


def test_what_was_acknowledged_before_kill_9_is_there_once_and_in_order(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, cwd=ROOT, text=True)
    told = [process.stdout.readline().strip() for _ in range(3000)]
    process.send_signal(signal.SIGKILL)
    rest = process.communicate()[0].splitlines()
    told += [line for line in rest[:-1] if line]

    async def reopen():
        await PredictionLog(tmp_path).open().close()

    run(reopen())
    found = [data.decode().strip() for data in everything(tmp_path)]
    assert len(found) == len(set(found)) and set(told) <= set(found)
    for name in range(8):
        numbers = [int(one.split(":")[1]) for one in found if one.startswith(f"{name}:")]
        assert numbers == list(range(len(numbers)))
    assert not list(tmp_path.glob(f"*{OPEN}"))
