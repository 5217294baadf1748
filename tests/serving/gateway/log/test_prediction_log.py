"""The writer of the prediction log: groups, rotation, retention and disk errors."""

import asyncio
import errno
import os
import time

import pytest
from support.logged import append_and_wait, read_all_records, run

from serving.gateway.log.durable_write import write_durably
from serving.gateway.log.log_files import DONE, LogPosition, find_record, next_position, read_log
from serving.gateway.log.prediction_log import LogLimits, LogWriteError, PredictionLog


def test_group_is_written_with_one_call_before_it_is_done(tmp_path):
    calls = []

    def slow_write(file: int, data: bytes) -> None:
        calls.append(len(data))
        time.sleep(0.02)
        write_durably(file, data)

    async def work():
        log = PredictionLog(tmp_path, write=slow_write).open()
        groups = {log.append(b"first")}
        await asyncio.sleep(0.005)  # the first is being written
        groups |= {log.append(b"%d" % n) for n in range(50)}
        assert len(groups) == 2 and log.lag == 50
        await asyncio.gather(*groups)
        assert read_all_records(tmp_path) == [b"first", *(b"%d" % n for n in range(50))]
        assert (log.records, log.groups, log.lag) == (51, 2, 0)
        await log.close()

    run(work())
    assert len(calls) == 2


def test_group_waits_for_the_records_in_flight_up_to_a_limit(tmp_path):
    async def work():
        in_flight = 3
        log = PredictionLog(tmp_path, expected=lambda: in_flight).open()
        first = log.append(b"one")
        await asyncio.sleep(0)
        second = log.append(b"two")
        assert first is second is log.append(b"three")  # the third record completes the group
        await first
        assert (log.records, log.groups) == (3, 1)
        await log.append(b"alone")  # the two others in flight never arrive
        assert (log.records, log.groups) == (4, 2)
        in_flight = 1
        await log.append(b"last")
        await log.close()

    run(work())
    assert read_all_records(tmp_path) == [b"one", b"two", b"three", b"alone", b"last"]


def test_record_is_found_by_its_position_in_open_and_closed_files(tmp_path):
    async def work():
        log = PredictionLog(tmp_path, LogLimits(file_bytes=100)).open()
        data = [b"%03d" % n * 10 for n in range(20)]
        positions = [(await append_and_wait(log, record))[0] for record in data]
        assert [find_record(tmp_path, position) for position in positions] == data
        await log.close()
        assert [find_record(tmp_path, position) for position in positions] == data
        assert len({position.file for position in positions}) > 3
        assert find_record(tmp_path, LogPosition(positions[0].file, positions[0].offset + 1)) is None
        assert (
            find_record(tmp_path, LogPosition(999, 0)) is None and find_record(tmp_path, LogPosition(1, 10**9)) is None
        )
        assert [position for position, _ in read_log(tmp_path)] == positions
        assert [record for _, record in read_log(tmp_path, next_position(positions[4], data[4]))] == data[5:]

    run(work())


def test_files_rotate_by_size_and_by_age(tmp_path):
    async def count_closed(limits: LogLimits, count: int, pause: float) -> int:
        folder = tmp_path / str(limits.file_bytes)
        log = PredictionLog(folder, limits).open()
        for n in range(count):
            await append_and_wait(log, b"%04d" % n * 25)
            await asyncio.sleep(pause)
        closed = len(list(folder.glob(f"*{DONE}")))
        await log.close()
        assert read_all_records(folder) == [b"%04d" % n * 25 for n in range(count)]
        return closed

    assert run(count_closed(LogLimits(file_bytes=117), 10, 0)) == 5  # a record is 116 bytes: the second fills a file
    assert run(count_closed(LogLimits(file_bytes=116), 10, 0)) == 10
    assert run(count_closed(LogLimits(file_bytes=10**6), 10, 0)) == 0
    assert run(count_closed(LogLimits(file_bytes=10**5, file_seconds=0.01), 4, 0.02)) >= 3


def test_retention_removes_the_oldest_files_that_are_not_needed(tmp_path):
    async def work(limits: LogLimits, needed: int) -> list[int]:
        folder = tmp_path / f"{limits.keep_bytes}-{limits.keep_seconds}-{needed}"
        log = PredictionLog(folder, limits, removable=lambda number: number < needed).open()
        for n in range(10):
            await append_and_wait(log, b"%02d" % n * 50)
        left = [int(path.stem) for path in log.files()]
        await log.close()
        return left

    size = 116
    assert run(work(LogLimits(file_bytes=1, keep_bytes=3 * size, keep_seconds=0), 99)) == [8, 9, 10]
    assert run(work(LogLimits(file_bytes=1, keep_bytes=3 * size, keep_seconds=0), 5)) == [5, 6, 7, 8, 9, 10]
    assert run(work(LogLimits(file_bytes=1, keep_bytes=0, keep_seconds=0), 99)) == list(range(1, 11))
    assert run(work(LogLimits(file_bytes=1, keep_bytes=0, keep_seconds=1e-9), 99)) == []


def test_second_writer_of_a_folder_is_an_error(tmp_path):
    async def work():
        log = PredictionLog(tmp_path).open()
        with pytest.raises(OSError, match="Another process"):
            PredictionLog(tmp_path).open()
        await log.close()
        await PredictionLog(tmp_path).open().close()

    run(work())


# Disk errors.


@pytest.mark.parametrize("partial", [0, 7, 10**6])
def test_full_disk_fails_new_records_and_loses_no_earlier_one(tmp_path, partial):
    full = False

    def write(file: int, data: bytes) -> None:
        if full:
            os.write(file, data[:partial])
            raise OSError(errno.ENOSPC, "No space left on device")
        write_durably(file, data)

    async def work():
        nonlocal full
        log = PredictionLog(tmp_path, write=write).open()
        await append_and_wait(log, b"one", b"two")
        full = True
        for _ in range(3):
            with pytest.raises(LogWriteError, match="No space left"):
                await log.append(b"lost")
        full = False
        (position,) = await append_and_wait(log, b"three")
        assert find_record(tmp_path, position) == b"three"
        await log.close()

    run(work())
    assert read_all_records(tmp_path) == [b"one", b"two", b"three"]


def test_group_waiting_behind_a_failed_write_fails_too(tmp_path):
    def write(file: int, data: bytes) -> None:
        time.sleep(0.02)
        raise OSError(errno.EIO, "Input/output error")

    async def work():
        log = PredictionLog(tmp_path, write=write).open()
        first = log.append(b"one")
        await asyncio.sleep(0.005)
        second = log.append(b"two")
        for group in (first, second):
            with pytest.raises(LogWriteError):
                await group
        await log.close()

    run(work())
    assert read_all_records(tmp_path) == []


def test_creating_a_file_is_retried_after_a_disk_error(tmp_path, monkeypatch):
    async def work():
        log = PredictionLog(tmp_path, LogLimits(file_bytes=1)).open()
        create_file = log._create_file
        monkeypatch.setattr(log, "_create_file", lambda file: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space")))
        with pytest.raises(LogWriteError):
            await log.append(b"one")
        with pytest.raises(LogWriteError):
            await log.append(b"two")
        monkeypatch.setattr(log, "_create_file", create_file)
        (position,) = await append_and_wait(log, b"three")
        assert find_record(tmp_path, position) == b"three"
        await log.close()

    run(work())
    assert b"three" in read_all_records(tmp_path) and b"two" not in read_all_records(tmp_path)
