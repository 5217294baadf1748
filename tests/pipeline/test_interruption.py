"""Ctrl-C and SIGTERM during a run."""

import os
import signal
import weakref
from collections.abc import Iterator

import pytest
from support.in_process import run_in_process

from pipeline import session
from pipeline.interruption import Interruption


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """Ctrl-C as in a terminal; a process that a shell starts in the background ignores it."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


class Thing:
    """An object whose weak reference has a callback."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_raises_at_once(number: int) -> None:
    interruption = Interruption()
    with pytest.raises(KeyboardInterrupt), interruption.listen():
        os.kill(os.getpid(), number)
        pytest.fail("the signal was lost")
    assert interruption.is_requested and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_process_that_ignores_ctrl_c_goes_on_ignoring_it() -> None:
    previous, interruption = signal.signal(signal.SIGINT, signal.SIG_IGN), Interruption()
    try:
        with interruption.listen():
            os.kill(os.getpid(), signal.SIGINT)
            interruption.check()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, previous)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_signal_in_a_callback_whose_exception_python_ignores_is_remembered() -> None:
    interruption, thing = Interruption(), Thing()
    reference = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGINT))
    with interruption.listen():
        interruption.check()
        del thing
        assert reference() is None
        with pytest.raises(KeyboardInterrupt):
            interruption.check()


@pytest.mark.parametrize("state", ["pushed", "refused", "failed", "interrupted"])
def test_exit_code_of_a_run_follows_from_its_state(tmp_path, monkeypatch, state: str) -> None:
    from pipeline.run import Run

    ended = Run(id="image-1", case="image", state=state, reason="for a reason", fingerprint="f", facts={})
    monkeypatch.setattr(session, "execute", lambda *arguments: ended)
    result = run_in_process("run", "image", "--home", tmp_path)
    assert result.returncode == {"pushed": 0, "interrupted": 130}.get(state, 1), result.stderr


@pytest.mark.parametrize("words", [("run", "image"), ("check", "image"), ("schema", "image"), ("refresh", "image")])
def test_ctrl_c_before_a_run_is_one_line_and_exit_code_130(tmp_path, monkeypatch, words) -> None:
    from pipeline import plan

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(plan, "_prepare_source", interrupt)
    monkeypatch.setattr(plan.RefreshBase, "of", interrupt)
    result = run_in_process(*words, "--home", tmp_path)
    assert result.returncode == 130 and result.stderr == "Interrupted.\n"
