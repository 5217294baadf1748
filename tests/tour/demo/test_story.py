"""The demonstration's order of things, with stand-ins for what takes minutes: both ends, interrupted at any part, and again."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.command import ROOT, showcase
from support.drift_case import append, day, record
from support.process import alive

from models.catalog import CASES, find
from pipeline import children, decisions, store
from pipeline import runtime as runtimes
from serving.drift.live import STATE
from tour.demo import drift, refusal, story, traffic

DATA = {"rows": 200, "days": 10, "data_seed": 3, "label_delay_days": 7}
METRICS = {"pr_auc": 0.6, "pr_auc_diff": 0.25, "example_count": 800.0}
CONSTANT = """
import json, signal, sys
signal.signal(signal.SIGTERM, lambda *_: (print(json.dumps({report})), sys.exit(0)))
print("on", file=sys.stderr, flush=True)
signal.pause()
"""


def report(count: int = 7, failed: int = 0, version: int = 1) -> dict[str, Any]:
    return {
        "sent": count,
        "failed": failed,
        "labels": count,
        "versions": {str(version): count},
        "milliseconds": {"p99": 3.0},
    }


class World:
    """What the demonstration touches, each part counted in ``did``; ``stop`` names the part at which Ctrl-C is pressed."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home, self.did, self.end, self.stop, self.failed = home, [], "pushed", "", 0
        self.decided: list[decisions.Decided] = []
        patch = monkeypatch.setattr
        patch(story.command, "run", self.run)
        patch(story, "served", self.served)
        patch(story, "toured", lambda story: self.did.append("tour"))
        patch(traffic.traffic, "replayed", self.replayed)
        patch(children, "start", self.started)
        patch(drift.monitor, "once", self.once)
        patch(decisions, "all_of", lambda runtime, case: self.decided if case == "fraud" else [])
        patch(drift, "SETTLED", 0.0)
        patch(drift, "SWAPPED", 0.5)
        patch(drift, "NOTICED", 0.5)

    def reached(self, part: str) -> None:
        self.did.append(part)
        if self.stop == part:
            raise KeyboardInterrupt

    def saved(self, case: str, state: str, **facts: str) -> store.Run:
        settings = json.dumps({"data": DATA if case == "fraud" else {}})
        name = f"{case}-{len(store.runs(runtimes.local(self.home).metadata))}"
        run = store.Run(name, case, state, f"{state} so", "f", {"settings": settings, "version": "1", **facts})
        store.save(runtimes.local(self.home).metadata, run)
        return run

    def run(self, name: str, home: Path, **more: Any) -> store.Run:
        bad = more.get("changes") == refusal.UNTRAINED
        self.reached(f"{'bad' if bad else 'run'} {name}")
        return self.saved(name, "refused" if bad else "pushed")

    @contextmanager
    def served(self, story: story.Story) -> Any:
        self.reached("serve")
        try:
            yield {"host": "127.0.0.1", "gateway": 1}
        finally:
            self.did.append("ended")

    def replayed(self, asked: Any) -> dict[str, Any]:
        self.reached(f"{asked.case} {asked.first}")
        if asked.case == "fraud" and asked.first == 20:
            state = {"judge": {"incidents": {"seen": [{"id": 1, "kind": "drift", "opened": 12, "causes": ["amount"]}]}}}
            (self.home / "fraud" / "online").mkdir(parents=True)
            (self.home / "fraud" / "online" / STATE).write_text(json.dumps(state))
        return report(failed=self.failed)

    def started(self, words: Any, log: Path) -> subprocess.Popen[str]:
        self.reached("constant")
        code = CONSTANT.replace("{report}", repr(report(version=2)))
        child = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        child.stderr.readline()
        self.child = child
        return child

    def once(self, case: Any, policy: Any, runtime: Any, report: Callable) -> tuple[Any, store.Run]:
        self.reached("monitor")
        assert (policy.learn, policy.spans) == (10, 70) and self.child.poll() is None
        told = {"id": "fraud-39", "action": "retrain", "window": 39, "reasons": ["It lost much."]}
        self.decided = [decisions.Decided(self.home, told)]
        run = self.saved("fraud", self.end, version="2", decision="fraud-39", metrics=json.dumps(METRICS))
        if self.end == "pushed":
            append(self.home / "fraud" / "online" / "predictions", [record(day(0), 0, version=2)])
        return self.decided[0], run

    def play(self, capsys: pytest.CaptureFixture, headless: bool = True) -> tuple[int, dict[str, Any]]:
        code = story.demo(self.home, headless, "none", {})
        text = capsys.readouterr().out
        return code, json.loads(text) if headless and code != story.INTERRUPTED else {"text": text}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_it_ends_in_a_swap_and_says_what_was_gained(world: World, capsys: pytest.CaptureFixture) -> None:
    code, told = world.play(capsys)
    assert code == 0 and told["ok"] and told["failed"] == 0
    days = [f"fraud {n}" for n in range(10, 12 + 32)]
    assert world.did == [
        "run fraud",
        "run image",
        "serve",
        *days[:2],
        "image -1",
        *days[2:],
        "constant",
        "monitor",
        "bad image",
        "ended",
    ]
    drift = told["drift"]["fraud"]
    assert drift["injected"] == ["concept:0.8@12", "amount:1.3@12"] and drift["incidents"][0]["kind"] == "drift"
    assert drift["metric"] == {"name": "pr_auc", "before": 0.35, "after": 0.6, "rows": 800}
    assert drift["decision"]["action"] == "retrain" and drift["run"]["state"] == "pushed" and drift["swap_seconds"] >= 0
    assert told["traffic"]["fraud"]["versions"] == {"1": 34 * 7, "2": 7} and told["refused"]["state"] == "refused"
    assert [run["case"] for run in told["runs"]] == list(CASES) and len(told["parts"]) == 7
    assert world.child.returncode == 0


def test_settings_go_to_the_cases_that_have_them(world: World, capsys: pytest.CaptureFixture, monkeypatch) -> None:
    given = {}

    def run(name: str, home: Path, **more: Any) -> store.Run:
        given[name] = more["changes"]
        return world.saved(name, "failed")

    monkeypatch.setattr(story.command, "run", run)
    story.demo(world.home, True, "none", {"rows": "500", "filters": "4", "epochs": "1"})
    assert given == {"fraud": {"rows": "500", "epochs": "1"}, "image": {"filters": "4", "epochs": "1"}}
    with pytest.raises(ValueError, match="No case has a setting 'speed'"):
        story.demo(world.home, True, "none", {"speed": "1"})


def test_a_refused_retraining_is_an_honest_end(world: World, capsys: pytest.CaptureFixture) -> None:
    world.end = "refused"
    code, told = world.play(capsys)
    assert (
        code == 0
        and told["drift"]["fraud"]["run"]["state"] == "refused"
        and "swap_seconds" not in told["drift"]["fraud"]
    )


@pytest.mark.parametrize("what", ["run", "request", "swap"])
def test_what_goes_wrong_is_no_success(world: World, capsys: pytest.CaptureFixture, monkeypatch, what: str) -> None:
    if what == "run":
        monkeypatch.setattr(story.command, "run", lambda name, home, **more: world.saved(name, "failed"))
    elif what == "request":
        world.failed = 1
    else:
        monkeypatch.setattr(sys.modules[__name__], "append", lambda folder, rows: None)
    code, told = world.play(capsys)
    assert code == 1 and not told["ok"] and (told["failed"] > 0) == (what == "request")


def test_a_second_one_repeats_nothing_and_says_so(world: World, capsys: pytest.CaptureFixture) -> None:
    world.play(capsys)
    world.did.clear()
    code, told = world.play(capsys)
    assert code == 0 and world.did == ["run image", "serve", "image -1", "ended"]
    assert told["drift"]["fraud"]["before"] and told["drift"]["fraud"]["metric"]["after"] == 0.6


@pytest.mark.parametrize(
    "stop", ["run image", "serve", "fraud 11", "image -1", "fraud 20", "constant", "monitor", "bad image"]
)
def test_interrupted_anywhere_it_ends_its_processes_and_goes_on(
    world: World, capsys: pytest.CaptureFixture, stop: str
) -> None:
    world.stop = stop
    code, told = world.play(capsys)
    assert code == story.INTERRUPTED
    assert not hasattr(world, "child") or world.child.poll() is not None
    sent = [one for one in world.did if one.startswith("fraud ") and one != stop]
    world.stop, before = "", len(world.did)
    assert world.play(capsys)[0] == 0
    assert not set(sent) & set(world.did[before:])


def test_a_person_is_told_all_of_it_and_it_stays(world: World, capsys: pytest.CaptureFixture) -> None:
    code, told = world.play(capsys, headless=False)
    assert code == 0 and world.did[-2:] == ["tour", "ended"]
    for words in (
        "incident 1: drift since window 12: amount",
        "It lost much.",
        "0.3500 before, 0.6000 now",
        "meets the gates",
        "failed requests: 0",
    ):
        assert words in told["text"], told["text"]


def test_a_child_ends_with_a_killed_parent(tmp_path: Path) -> None:
    """The child here is a program that waits for ever, in the place of ``showcase``."""
    code = (
        "import subprocess, time; from pathlib import Path; from pipeline import children; popen = subprocess.Popen\n"
        "children.subprocess.Popen = lambda words, **more: popen(['sleep', '600'], **more)\n"
        f"print(children.start([], Path({str(tmp_path / 'log')!r})).pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.kill()
    parent.wait()
    until = time.monotonic() + 60
    while alive(child):
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.slow
def test_the_whole_of_it_from_pushed_models(demo_home: Path, tmp_path: Path) -> None:
    """For real: a copy of a home whose pipelines are done, to a second version that answers better after the drift."""
    shutil.copy(demo_home / "metadata.sqlite", tmp_path / "metadata.sqlite")
    for case in CASES:
        shutil.copytree(demo_home / case / "versions", tmp_path / case / "versions")
    (tmp_path / "data").mkdir()
    for source in (
        demo_home / "data"
    ).iterdir():  # the same data by the same path, so that the pipelines are found done
        (tmp_path / "data" / source.name).symlink_to(source)
    done = showcase("demo", "--headless", "--home", tmp_path, "--tracking", "none", timeout=3600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert all(run["facts"].get("same_as") for run in told["runs"])
    drift = told["drift"]["fraud"]
    assert told["failed"] == 0 and drift["run"]["state"] == "pushed" and told["served"]["fraud"] == 2
    assert drift["metric"]["after"] > drift["metric"]["before"]
    assert set(told["traffic"]["fraud"]["versions"]) == {"1", "2"} and told["refused"]["state"] == "refused"
    assert find("fraud").policy.changed({}).loss <= drift["decision"]["loss"]["value"]
