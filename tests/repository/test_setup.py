"""make setup and make demo on a stub machine: what they install, and their messages if something is missing."""

import os

import pytest
from support.stub_machine import MAKE, Machine

pytestmark = [pytest.mark.system, pytest.mark.skipif(MAKE is None, reason="make is not installed")]


def test_setup_syncs_once_and_after_a_change_of_the_lock_file(ready: Machine) -> None:
    assert [ready.make("setup").returncode for _ in range(2)] == [0, 0]
    assert len(ready.calls("uv")) == 1
    later = (ready.checkout / ".venv" / ".synced").stat().st_mtime + 5
    os.utime(ready.checkout / "uv.lock", (later, later))
    ready.make("setup")
    assert len(ready.calls("uv")) == 2
    assert all(call.startswith("uv sync --frozen") for call in ready.calls("uv"))


def test_make_without_a_target_runs_setup(ready: Machine) -> None:
    assert ready.make().returncode == 0
    assert len(ready.calls("uv")) == 1


def test_a_failed_sync_is_repeated(bare: Machine) -> None:
    bare.add("uv", "mkdir -p .venv; exit 2")
    assert bare.make("setup").returncode != 0
    assert bare.make("setup").returncode != 0
    assert len(bare.calls("uv")) == 2


def test_without_uv_a_venv_installs_it(bare: Machine) -> None:
    uv = bare.add("uv", "mkdir -p .venv", bare.checkout.parent)
    pip = f"cat {uv} > .tools/bin/uv; chmod +x .tools/bin/uv"
    venv = f"mkdir -p .tools/bin; echo '{pip}' > .tools/bin/python; chmod +x .tools/bin/python"
    bare.add("python3.11", f'[ "$1" = -c ] && echo "$0" && exit; [ "$2" = venv ] || exit 1; {venv}')
    result = bare.make("setup")
    assert result.returncode == 0, result.stderr
    assert len(bare.calls("uv")) == 1


def test_without_ensurepip_pip_installs_uv_into_a_folder(bare: Machine) -> None:
    uv = bare.add("uv", "mkdir -p .venv", bare.checkout.parent)
    pip = f"mkdir -p .tools/lib/bin; cat {uv} > .tools/lib/bin/uv; chmod +x .tools/lib/bin/uv"
    bare.add("python3.11", f'[ "$1" = -c ] && echo "$0" && exit; [ "$2" = pip ] || exit 1; {pip}')
    result = bare.make("setup")
    assert result.returncode == 0, result.stderr
    assert len(bare.calls("uv")) == 1


def test_without_uv_pip_and_network_the_error_names_what_to_install(bare: Machine) -> None:
    result = bare.make("setup")
    assert result.returncode != 0
    assert "check the network" in result.stderr
    assert "python3-venv" in result.stderr
    assert not (bare.checkout / ".tools").exists()


def test_python3_is_used_where_it_is_3_11(ready: Machine) -> None:
    (ready.programs / "python3.11").rename(ready.programs / "python3")
    assert ready.make("setup").returncode == 0
    assert f"--python {ready.programs}/python3" in ready.calls("uv")[0]


def test_without_python_3_11_the_error_names_the_option(ready: Machine) -> None:
    (ready.programs / "python3.11").unlink()
    ready.add("python3", "echo elsewhere; exit 1")
    result = ready.make("setup")
    assert result.returncode != 0
    assert "make PYTHON=" in result.stderr
    assert ready.calls("uv") == []


@pytest.mark.parametrize("words", ["Darwin arm64", "Linux aarch64"])
def test_another_platform_is_refused(ready: Machine, words: str) -> None:
    system, processor = words.split()
    (ready.programs / "uname").unlink()
    ready.add("uname", f'[ "$1" = -s ] && echo {system} || echo {processor}')
    result = ready.make("setup")
    assert result.returncode != 0
    assert "use a container" in result.stderr


def test_without_npm_the_tests_run_without_the_browser_page(ready: Machine) -> None:
    (ready.programs / "npm").unlink()
    result = ready.make("test")
    assert result.returncode == 0
    assert "apt-get install npm" in result.stderr
    assert "browser page will be skipped" in result.stderr
    assert len(ready.calls("python")) == 1


def test_demo_installs_the_browser_page_once(ready: Machine) -> None:
    results = [ready.make("demo") for _ in range(2)]
    assert [result.returncode for result in results] == [0, 0]
    assert [call.split()[:2] for call in ready.calls("npm")] == [["npm", "ci"]]
    assert [call.split()[1] for call in ready.calls("showcase")] == ["demo", "demo"]
    assert [result.stderr for result in results] == ["", ""]


@pytest.mark.parametrize(
    ("npm", "remedy"), [(None, "apt-get install npm; then make browser"), ("exit 1", "then run make browser")]
)
def test_demo_goes_on_without_the_browser_page_and_says_how_to_get_it(
    ready: Machine, npm: str | None, remedy: str
) -> None:
    (ready.programs / "npm").unlink()
    if npm:
        ready.add("npm", npm)
    result = ready.make("demo")
    assert result.returncode == 0
    assert remedy in result.stderr and "no model in the browser" in result.stderr
    assert len(result.stderr.splitlines()) == (2 if npm else 1)  # make names the failed command
    assert [call.split()[1] for call in ready.calls("showcase")] == ["demo"]
