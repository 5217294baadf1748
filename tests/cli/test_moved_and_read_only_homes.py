"""Commands on a home that was copied, moved or mounted read-only: the same output as on the original."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import httpx
import pytest
from support.in_process import run_in_process
from support.stored_home import plant, put_finished_run
from support.tour_server import run_tour
from support.tried_home import run_gateway

from pipeline.home import Home
from pipeline.metadata import local_file
from tour.web.application import create_app

pytestmark = pytest.mark.system

READING = (
    "status",
    "status --json",
    "runs",
    "runs --json",
    "runs fraud --compare --json",
    "neighbours fraud m1",
    "dvc fraud --check",
    "ask A15 --prove --json",
)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("planted") / "home"
    plant(home)
    put_finished_run(home)
    return home


@pytest.fixture
def home(planted: Path, tmp_path: Path) -> Path:
    """A home that a test may change, opened once in its place."""
    home = shutil.copytree(planted, tmp_path / "first place" / "home")
    assert run_in_process("status", "--home", home).returncode == 0
    return home


def read(home: Path) -> dict[str, tuple[int, str, str]]:
    """Return exit code and output of each command that reads, without the home's path."""
    answers = {}
    for text in READING:
        result = run_in_process(*text.split(), "--home", home)
        parts = [part.replace(str(home), "HOME") for part in (result.stdout, result.stderr)]
        if "--prove" in text:
            parts[0] = json.dumps(json.loads(parts[0]) | {"seconds": 0})
        answers[text] = result.returncode, *parts
    return answers


def list_files(home: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(home.rglob("*"))}


@pytest.mark.parametrize("moved", [False, True])
def test_commands_work_on_a_copy_and_after_a_move(home: Path, tmp_path: Path, moved: bool) -> None:
    before, other = read(home), tmp_path / "other place" / "home"
    if moved:
        other.parent.mkdir()
        home.rename(other)
    else:
        shutil.copytree(home, other, symlinks=True)
        shutil.move(home, home.with_name("hidden"))  # the copy reads nothing from here
    first = run_in_process("status", "--home", other)
    assert first.returncode == 0 and first.stderr == ""
    assert read(other) == before
    with run_gateway(other) as gateway:
        words = ("--rate", 0, "--spans", "1:1", "--json", "--gateway", gateway, "--home", other)
        traffic = run_in_process("traffic", "fraud", *words)
    # The gateway refuses three ids, which the home's log has with other rows.
    assert json.loads(traffic.stdout)["sent"] == 7 and json.loads(traffic.stdout)["statuses"]["200"] == 4, (
        traffic.stderr
    )
    run = run_in_process("run", "image", "--data", other / "digits", "--tracking", "none", "--json", "--home", other)
    assert run.returncode == 0 and json.loads(run.stdout)["facts"]["same_as"] == "image-2", run.stderr
    monitor = run_in_process("monitor", "fraud", "--home", other)
    assert monitor.returncode == 0 and "no window has ended since the last check" in monitor.stdout, monitor.stderr
    if not moved:
        home.with_name("hidden").rename(home)
        assert read(home) == before


def test_decisions_links_and_tracked_runs_follow_the_home(home: Path, tmp_path: Path) -> None:
    folder = home / "fraud" / "artifacts" / "Decide" / "decision" / "7"
    folder.mkdir(parents=True)
    (folder / "decision.json").write_text(json.dumps({"report": f"{home}/fraud/artifacts/report", "other": "/x"}))
    span = home / "fraud" / "collected" / "d1" / "span-000"
    span.parent.mkdir(parents=True)
    span.symlink_to(home / "raw" / "span-000", target_is_directory=True)
    other = home.rename(tmp_path / "other")
    assert run_in_process("status", "--home", other).returncode == 0
    decision = json.loads((other / folder.relative_to(home) / "decision.json").read_text())
    assert decision == {"report": f"{other}/fraud/artifacts/report", "other": "/x"}
    assert (other / span.relative_to(home) / "rows.csv").is_file()


def test_files_that_a_home_only_links_to_stay_as_they_are(home: Path, tmp_path: Path) -> None:
    decision = home / "fraud" / "artifacts" / "Decide" / "decision" / "7" / "decision.json"
    decision.parent.mkdir(parents=True)
    decision.write_text(json.dumps({"report": f"{home}/fraud/artifacts/report"}))
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(home / "metadata.sqlite", other)
    for path in home.iterdir():
        if not (other / path.name).exists():
            (other / path.name).symlink_to(path)
    before = decision.read_text()
    assert run_in_process("status", "--home", other).returncode == 0
    assert decision.read_text() == before


def test_store_without_a_record_of_its_home_follows_its_first_artifact(tmp_path: Path) -> None:
    assert local_file.OUTPUT.fullmatch("/old home/fraud/artifacts/Trainer/model/12")[1] == "/old home"
    assert local_file.OUTPUT.fullmatch("/old home/artifacts/model") is None


def test_paths_inside_a_text_follow_and_others_stay(tmp_path: Path) -> None:
    old, new = tmp_path / "old [1]", tmp_path / "new"
    (new / "fraud" / "versions").mkdir(parents=True)
    (new / "my data").mkdir()

    def follow(text: str) -> str:
        return local_file._follow(str(old), str(new), text.format(old=old)).replace(str(new), "NEW")

    assert follow("{old}/my data") == "NEW/my data"
    assert follow('{{"base": "{old}/fraud/versions"}}') == '{"base": "NEW/fraud/versions"}'
    assert follow("See {old}/fraud/versions for it; {old}/gone").startswith(
        "See NEW/fraud/versions for it; " + str(old)
    )
    assert follow("{old}er/fraud") == f"{old}er/fraud"


def test_home_without_write_permission_is_read_and_stays_unchanged(home: Path) -> None:
    before, files = read(home), list_files(home)
    with patch.object(local_file, "is_writable", lambda file: False):
        assert read(home) == before
        assert list_files(home) == files


def test_moved_home_without_write_permission_is_read(home: Path, tmp_path: Path) -> None:
    before = read(home)
    other = home.rename(tmp_path / "home")
    files = list_files(other)
    with patch.object(local_file, "is_writable", lambda file: False):
        assert read(other) == before
        assert all(run.source.startswith(str(other)) for run in Home(other).pushed_runs("fraud"))
    assert list_files(other) == files


@pytest.fixture
def mounted(home: Path, tmp_path: Path) -> Iterator[Path]:
    """The home on a read-only mount."""
    mount = tmp_path / "mounted"
    mount.mkdir()
    steps = (["mount", "--bind", home, mount], ["mount", "-o", "remount,ro,bind", mount])
    if any(subprocess.run(step, capture_output=True).returncode for step in steps):
        pytest.skip("this machine does not let the tests mount a folder")
    yield mount
    subprocess.run(["umount", mount], check=True)


PAGES = (
    "/",
    "/stages",
    "/stage/fraud/Trainer",
    "/lineage",
    "/lineage/span/fraud/0/1",
    "/try",
    "/try/image",
    "/questions/A15",
    "/presenter",
    "/break",
)


def test_tour_shows_a_read_only_mount(mounted: Path) -> None:
    with (
        run_tour(create_app(mounted)) as address,
        httpx.Client(base_url=address, timeout=60, trust_env=False) as client,
    ):
        assert {page: client.get(page).status_code for page in PAGES} == dict.fromkeys(PAGES, 200)


def test_read_only_mount_is_read(mounted: Path, home: Path) -> None:
    assert not local_file.is_writable(mounted / "metadata.sqlite")
    assert read(mounted) == read(home)
    result = run_in_process("run", "image", "--data", mounted / "digits", "--tracking", "none", "--home", mounted)
    assert result.returncode == 2 and "Read-only file system" in result.stderr
