"""``showcase traffic`` sends the data of the last pushed run, and nothing that the generator made up."""

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from support.gateway_case import read_logged_rows
from support.in_process import run_in_process
from support.shown_home import plant_home
from support.tried_home import plant_training_rows, run_gateway

from models.fraud.generator.span_generator import generate
from pipeline.home import Home
from pipeline.metadata import store
from pipeline.online.replay import TrafficOptions, send_traffic
from pipeline.run import Run

pytestmark = pytest.mark.system

DAYS = 20
SPLITS = {"warmup_days": 2, "valid_days": 2, "eval_days": 2, "label_delay_days": 3}
HELD_OUT = 3 + 2 + 3 + 2  # the last days that training does not use: label delay, eval, label delay, valid


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose last pushed run of fraud was trained on files of a user's own."""
    home, source = plant_home(tmp_path / "home"), tmp_path / "own"
    plant_training_rows(home)
    for day in range(DAYS):
        lines = ["transaction_id,event_time,customer_id,merchant_id,amount,is_fraud"]
        lines += [f"own-{day}-{n},2026-02-{day + 1:02d}T12:0{n}:00,c{n},m{n},5.0,{n % 2}" for n in range(4)]
        (source / f"span-{day:03d}").mkdir(parents=True)
        (source / f"span-{day:03d}" / "rows.csv").write_text("\n".join(lines) + "\n")
    save_source(home, source, f"0:{DAYS - 1}", columns="", **SPLITS)
    return home


def save_source(home: Path, source: Path, window: str, **settings: object) -> None:
    """Change the data of the home's pushed run of fraud."""
    first = (date(2026, 2, 1) - date(1970, 1, 1)).days
    data = {"first_day": first, "last_day": first + DAYS - 1, **settings}
    (run,) = Home(home).pushed_runs("fraud")
    facts = run.facts | {"source": str(source), "spans": window, "settings": json.dumps({"data": data})}
    store.save(Home(home).metadata, replace(run, facts=facts))


@pytest.fixture
def gateway(home: Path) -> Iterator[str]:
    with run_gateway(home) as address:
        yield address


def test_own_rows_that_training_held_out_are_sent_with_their_labels(home: Path, gateway: str) -> None:
    result = run_in_process(
        "traffic", "fraud", "--rate", 0, "--connections", 1, "--gateway", gateway, "--home", home, "--json"
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["sent"], report["failed"], report["labels"]) == (4 * HELD_OUT, 0, 4 * HELD_OUT)
    sent = [row["served/key"][0].decode() for row in read_logged_rows(home)]
    assert sent == [f"own-{day}-{n}" for day in range(DAYS - HELD_OUT, DAYS) for n in range(4)]
    labels = {row["label/key"][0].decode(): row["label/value"][0] for row in read_logged_rows(home, folder="labels")}
    assert labels == {key: int(key[-1]) % 2 for key in sent}
    assert not list((home / "data").glob("continuation-*"))


def test_rows_that_are_sent_twice_get_their_first_answers(home: Path, gateway: str) -> None:
    words = ["traffic", "fraud", "--rate", 0, "--gateway", gateway, "--home", home]
    assert run_in_process(*words).returncode == 0
    logged = read_logged_rows(home)
    result = run_in_process(*words)
    assert result.returncode == 0, result.stdout
    assert f"0 failed, {4 * HELD_OUT} answered as when they were sent before" in result.stdout
    assert f"{4 * HELD_OUT} labels stored, {4 * HELD_OUT} of them before" in result.stdout
    assert read_logged_rows(home) == logged and len(logged) == 4 * HELD_OUT


@pytest.mark.parametrize("raises", [False, True])
def test_ctrl_c_ends_the_sending_and_loses_no_label(home: Path, gateway: str, raises: bool) -> None:
    """The signal comes after the third label is logged as answered, which is before all rows are sent."""
    host, port = gateway.split(":")
    answered = threading.Event()

    def interrupt() -> None:
        while len(read_logged_rows(home)) < 3:
            answered.wait(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    words = ("traffic", "fraud", "--rate", 20, "--connections", 1, "--home", home, "--gateway", gateway)
    if raises:
        options = TrafficOptions("fraud", home, None, -1, -1, [], 20, 0, 1, f"{host}:{port}", True)
        with pytest.raises(KeyboardInterrupt):
            send_traffic(options)
    else:
        result = run_in_process(*words)
        assert result.returncode == 130 and "0 failed" in result.stdout and "labels stored" in result.stdout
    thread.join()
    sent, labels = read_logged_rows(home), read_logged_rows(home, folder="labels")
    assert 3 <= len(sent) < 4 * HELD_OUT and len(labels) == len(sent)


def test_generated_data_is_continued(home: Path, gateway: str, tmp_path: Path) -> None:
    generate(tmp_path / "generated", rows=400, days=DAYS, seed=5)
    save_source(home, tmp_path / "generated", f"0:{DAYS - 1}", columns="", **SPLITS)
    result = run_in_process("traffic", "fraud", "--rate", 0, "--gateway", gateway, "--home", home, "--json")
    assert result.returncode == 0 and json.loads(result.stdout)["sent"] > 20, result.stderr
    assert [path.name for path in (home / "data").iterdir()] == [f"continuation-400-{DAYS}-5-{DAYS + 3}"]


def test_data_that_is_gone_is_named_and_nothing_is_sent(home: Path, gateway: str, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "own")
    result = run_in_process("traffic", "fraud", "--gateway", gateway, "--home", home)
    assert result.returncode == 2 and f"{tmp_path / 'own'}, is not there" in result.stderr and "--data" in result.stderr
    assert not read_logged_rows(home)


def test_home_without_a_pushed_run_has_nothing_to_send(tmp_path: Path) -> None:
    result = run_in_process("traffic", "fraud", "--gateway", "127.0.0.1:1", "--home", tmp_path)
    assert result.returncode == 2 and "No model of fraud has been pushed" in result.stderr


def test_demonstration_refuses_to_continue_data_that_was_not_generated(home: Path) -> None:
    from rich.console import Console

    from models.catalog import find_use_case
    from tour.demo import demo_traffic
    from tour.demo.collaborators import Collaborators
    from tour.demo.playthrough import Playthrough
    from tour.demo.report import DemoReport

    play = Playthrough(home, DemoReport(Console()), collaborators=Collaborators(run_pipeline=pytest.fail))
    with pytest.raises(ValueError, match="generated data"):
        demo_traffic.load_scenario(play, find_use_case("fraud"))
    assert isinstance(Home(home).pushed_runs("fraud")[0], Run)
