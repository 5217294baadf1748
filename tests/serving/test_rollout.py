"""Rollouts: the file, the commands, and version changes under load with the real engine."""

import asyncio
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import orjson
import pytest
from support.amount_model import create_stack, export_amount_model
from support.command import ROOT
from support.gateway_case import PURCHASE, create_versions
from support.in_process import run_in_process

from serving import rollout
from serving.gateway.log.log_files import read_log
from serving.gateway.log.tf_example import decode
from serving.request_sender import Sender
from serving.rollout import Rollout
from serving.server import config

pytestmark = pytest.mark.system

LOAD = """
import sys
from pathlib import Path
from support.amount_model import serve_forever
serve_forever(Path(sys.argv[1]))
"""


def test_without_a_file_the_newest_version_is_served(tmp_path):
    folder = create_versions(tmp_path, 1, 2, 10)
    assert rollout.read(folder) == Rollout() and rollout.list_versions(folder) == [1, 2, 10]
    assert (
        rollout.stable_version(folder, Rollout()) == 10 and rollout.stable_version(tmp_path / "none", Rollout()) is None
    )
    assert Rollout().choose_arm("any") == ("stable", None) and Rollout().versions_to_load == ()


def test_promote_and_rollback_change_the_stable_version(tmp_path):
    folder = create_versions(tmp_path, 1, 2, 3)
    assert rollout.promote(folder, 2) == Rollout(stable=2, previous=3) == rollout.read(folder)
    assert rollout.promote(folder, 3) == Rollout(stable=3, previous=2)
    assert rollout.rollback(folder) == Rollout(stable=2)
    assert rollout.rollback(folder) == Rollout(stable=1)
    with pytest.raises(ValueError, match="no older version to roll back to"):
        rollout.rollback(folder)
    assert rollout.read(folder) == Rollout(stable=1)
    assert rollout.promote(folder, None) == Rollout(stable=None, previous=1)
    assert rollout.rollback(folder) == Rollout(stable=1)


def test_canary_and_shadow_keep_the_stable_version_until_promoted_or_ended(tmp_path):
    folder = create_versions(tmp_path, 1, 2, 3)
    rollout.promote(folder, 2)
    assert rollout.promote(folder, 3, share=0.2) == Rollout(stable=2, previous=3, canary=3, share=0.2)
    assert rollout.promote(folder, 1, shadow=True).versions_to_load == (1, 2, 3)
    assert rollout.read(folder).labels == {"stable": 2, "canary": 3, "shadow": 1}
    assert rollout.rollback(folder) == Rollout(stable=2, previous=3)  # ends both, and changes nothing else
    rollout.promote(folder, 3, share=0.2)
    assert rollout.promote(folder, 3) == Rollout(stable=3, previous=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((9,), "no version 9; it has 1, 2"),
        ((2, 0.5), "stable version already"),
        ((1, 0.0), "between 0 and 1"),
        ((1, 1.0), "between 0 and 1"),
        ((2, None, True), "stable version already"),
    ],
)
def test_invalid_promotion_is_rejected_and_changes_nothing(tmp_path, arguments, message):
    folder = create_versions(tmp_path, 1, 2)
    with pytest.raises(ValueError, match=message):
        rollout.promote(folder, *arguments)
    assert not (folder / rollout.FILE).exists()


def test_damaged_file_error_names_the_remedy(tmp_path):
    (tmp_path / rollout.FILE).write_text('{"stable": 1')
    with pytest.raises(ValueError, match="remove it to serve the newest"):
        rollout.read(tmp_path)
    (tmp_path / rollout.FILE).write_text('{"colour": 1}')
    with pytest.raises(ValueError, match="is damaged"):
        rollout.read(tmp_path)


def test_model_config_file_contains_the_versions_and_labels(tmp_path):
    first_folder, second_folder = create_versions(tmp_path / "one", 1, 2, 3), create_versions(tmp_path / "two", 5)
    rollout.promote(first_folder, 2)
    rollout.promote(first_folder, 3, share=0.1)
    path = tmp_path / "models.config"
    path.write_text(rollout.model_config({"one": first_folder, "two": second_folder}))
    first, second = config.read_models(path)
    assert (first.policy, first.specific, dict(first.labels)) == ("specific", (2, 3), {"stable": 2, "canary": 3})
    assert (second.name, second.base_path) == ("two", str(second_folder))
    assert (second.policy, dict(second.labels)) == ("latest", {})


def test_commands_change_the_file_and_report_errors_on_one_line(tmp_path):
    folder = create_versions(tmp_path / "fraud" / "versions", 1, 2)
    assert run_in_process("promote", "fraud", 1, "--home", tmp_path).returncode == 0
    assert rollout.read(folder) == Rollout(stable=1, previous=2)
    done = run_in_process("promote", "fraud", 2, "--canary", 0.25, "--home", tmp_path, "--json")
    assert json.loads(done.stdout) == {"stable": 1, "previous": 2, "canary": 2, "share": 0.25, "shadow": None}
    assert "canary" in (tmp_path / "models.config").read_text()
    assert run_in_process("rollback", "fraud", "--home", tmp_path).returncode == 0
    assert rollout.read(folder) == Rollout(stable=1, previous=2)
    for arguments in (("promote", "fraud", 7), ("promote", "fraud", "x"), ("rollback", "fraud")):
        done = run_in_process(*arguments, "--home", tmp_path)
        assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr


# Under load.


def bodies(hour: int = 0):
    """Yield purchases of fifty customers without end, all at the same hour."""
    for number in itertools.count():
        identifiers = {"transaction_id": f"h{hour}-{number}", "customer_id": f"c{number % 50}"}
        yield orjson.dumps(PURCHASE | identifiers | {"event_time": f"2026-01-05T{hour:02d}:00:00Z"})


def check(answer):
    expected = 0.1 + answer["version"] / 100
    return None if abs(answer["score"] - expected) < 1e-6 else "a score of another version"


async def wait_until(condition, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        await asyncio.sleep(0.02)


def test_version_changes_under_load_lose_no_request(tmp_path):
    folder = tmp_path / "versions"
    folder.mkdir()
    for version in (1, 2):
        export_amount_model(folder, version)
    shutil.move(folder / "2", tmp_path / "2")
    answered: dict[str, int] = {}

    async def work() -> Counter[int]:
        running = await create_stack(tmp_path).start()
        sender = Sender(
            "127.0.0.1",
            running.port,
            "/v1/fraud/score",
            check,
            lambda body, answer: answered.update({answer["prediction_id"]: answer["version"]}),
        )
        load = asyncio.ensure_future(sender.run(bodies(), 300, 8))
        counts = sender.report.versions

        async def wait_for_answers(version: int) -> None:
            before = counts[version]
            await wait_until(lambda: counts[version] > before + 20)

        await wait_for_answers(1)
        os.rename(tmp_path / "2", folder / "2")  # a push
        await wait_for_answers(2)
        rollout.promote(folder, 1)
        await wait_for_answers(1)
        rollout.promote(folder, 2, share=0.3)
        await wait_for_answers(2)
        await wait_for_answers(1)
        rollout.promote(folder, 2)
        await wait_until(lambda: running.gateway.scorers["fraud"].rollout.canary is None)
        await wait_for_answers(2)
        rollout.rollback(folder)
        await wait_until(lambda: running.gateway.scorers["fraud"].rollout.stable == 1)
        await asyncio.sleep(0.5)
        before_rollback = counts[2]
        await wait_for_answers(1)
        assert counts[2] == before_rollback  # the version that was rolled back answers no more requests
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
        await running.close()
        report = sender.report
        assert not report.wrong and set(report.statuses) == {200}, (report.wrong, report.statuses, report.refusals)
        return counts

    counts = asyncio.run(work())
    assert set(counts) == {1, 2}
    recorded = {
        record["served/id"][0].decode(): record["served/version"][0]
        for record in (decode(data) for _, data in read_log(tmp_path / "online" / "predictions"))
    }
    assert answered.items() <= recorded.items() and len(recorded) - len(answered) <= 8


@pytest.mark.slow
def test_version_and_acknowledged_predictions_survive_kill_9_under_load(tmp_path):
    folder = tmp_path / "versions"
    folder.mkdir()
    for version in (1, 2):
        export_amount_model(folder, version)
    rollout.promote(folder, 1)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    answered: dict[str, bytes] = {}

    def start() -> tuple[subprocess.Popen, int]:
        process = subprocess.Popen(
            [sys.executable, "-c", LOAD, tmp_path], stdout=subprocess.PIPE, env=environment, cwd=ROOT
        )
        return process, int(process.stdout.readline())

    async def load(port: int, hour: int, process: subprocess.Popen | None) -> Sender:
        sender = Sender(
            "127.0.0.1",
            port,
            "/v1/fraud/score",
            check,
            lambda body, answer: answered.update({answer["prediction_id"]: body}),
        )
        work = asyncio.ensure_future(sender.run(bodies(hour), 0, 8))
        await wait_until(lambda: sender.report.statuses[200] > 300)
        if process:
            process.send_signal(signal.SIGKILL)
        await asyncio.sleep(0.3)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        return sender

    for hour in range(3):
        process, port = start()
        before = Counter(orjson.loads(body)["customer_id"] for body in answered.values())
        try:
            sender = asyncio.run(load(port, hour, process if hour < 2 else None))
        finally:
            process.kill()
            process.communicate()
        assert set(sender.report.versions) == {1} and not sender.report.wrong
    assert set(sender.report.statuses) == {200}
    records = [decode(data) for _, data in read_log(tmp_path / "online" / "predictions")]
    recorded = {record["served/id"][0].decode(): record for record in records}
    assert len(recorded) == len(records) and set(answered) <= set(recorded)
    last = [record for record in records if record["transaction_id"][0].startswith(b"h2-")]
    # The history survived both kills: each purchase of the last hour counts all purchases answered in the hours before.
    assert len(before) == 50 and len(last) >= 300
    assert all(record["customer_count_1d"][0] >= before[record["customer_id"][0].decode()] > 0 for record in last)
