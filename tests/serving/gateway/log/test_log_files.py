"""Recovery of the prediction log: incomplete records, flipped bits, a killed writer."""

import signal
import subprocess
import sys

import pytest
from support.command import ROOT
from support.logged import append_and_wait, read_all_records, run

from serving.gateway.log import tfrecords
from serving.gateway.log.log_files import DONE, OPEN, TORN, LogPosition, read_log, recover_file
from serving.gateway.log.prediction_log import PredictionLog


@pytest.mark.parametrize("cut", [1, 4, 11, 12, 20, 35])
def test_incomplete_record_is_truncated_and_saved(tmp_path, cut):
    whole = tfrecords.frame_record(b"kept" * 4)
    torn = tfrecords.frame_record(b"torn" * 5)[:cut]
    path = tmp_path / f"00000007{OPEN}"
    path.write_bytes(whole + torn)
    assert [data for _, data in read_log(tmp_path)] == [b"kept" * 4]

    async def work():
        log = PredictionLog(tmp_path).open()
        assert log.torn_bytes == cut and log.position == LogPosition(8, 0)
        await append_and_wait(log, b"next")
        await log.close()

    run(work())
    assert read_all_records(tmp_path) == [b"kept" * 4, b"next"]
    assert path.with_suffix(TORN).read_bytes() == torn


def test_complete_file_is_closed_and_empty_file_is_removed(tmp_path):
    full, empty = tmp_path / f"1{OPEN}", tmp_path / f"2{OPEN}"
    full.write_bytes(tfrecords.frame_record(b"x"))
    empty.write_bytes(b"")
    assert recover_file(full) == recover_file(empty) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"1{DONE}"]


@pytest.mark.parametrize("at", range(0, 40, 3))
def test_flipped_bit_in_a_closed_file_is_an_error(tmp_path, at):
    data = bytearray(tfrecords.frame_record(b"a" * 8) + tfrecords.frame_record(b"b" * 8))
    data[at] ^= 4
    path = tmp_path / f"00000001{DONE}"
    path.write_bytes(data)
    with pytest.raises(tfrecords.CorruptRecordError, match="is damaged at byte") as caught:
        list(read_log(tmp_path))
    assert caught.value.offset == (0 if at < 24 else 24)


WRITER = """
import asyncio, sys
from pathlib import Path
from serving.gateway.log.prediction_log import PredictionLog, LogLimits
async def client(log, name):
    n = 0
    while True:
        data = f"{name}:{n}".encode().ljust(200)
        await log.append(data)
        sys.stdout.write(f"{name}:{n}\\n"); sys.stdout.flush()
        n += 1
async def main():
    log = PredictionLog(Path(sys.argv[1]), LogLimits(file_bytes=20_000)).open()
    await asyncio.gather(*(client(log, name) for name in range(8)))
asyncio.run(main())
"""


@pytest.mark.system
def test_acknowledged_records_are_stored_once_and_in_order_after_kill_9(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, cwd=ROOT, text=True)
    acknowledged = [process.stdout.readline().strip() for _ in range(3000)]
    process.send_signal(signal.SIGKILL)
    rest = process.communicate()[0].splitlines()
    acknowledged += [line for line in rest[:-1] if line]

    async def reopen():
        await PredictionLog(tmp_path).open().close()

    run(reopen())
    stored = [data.decode().strip() for data in read_all_records(tmp_path)]
    assert len(stored) == len(set(stored)) and set(acknowledged) <= set(stored)
    for name in range(8):
        numbers = [int(text.split(":")[1]) for text in stored if text.startswith(f"{name}:")]
        assert numbers == list(range(len(numbers)))
    assert not list(tmp_path.glob(f"*{OPEN}"))
