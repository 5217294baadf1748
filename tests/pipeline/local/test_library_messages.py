"""Messages of C++ libraries stay off the terminal; all other text, colours, progress and the logs of runs are unchanged."""

import os
import select
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.command import ROOT
from support.terminal_command import run_on_terminal

from pipeline.local.library_messages import copy_other_lines

pytestmark = pytest.mark.system

# As the libraries print them on a machine without a GPU.
DROPPED = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795957725.102801   29012 cudart_stub.cc:31] Could not find cuda drivers on your machine.",
    "I0000 00:00:1795957725.102478   29012 port.cc:153] oneDNN custom operations are on.",
    "E0000 00:00:1795957881.872216   11658 cuda_platform.cc:52] failed call to cuInit: INTERNAL: UNKNOWN ERROR (303)",
    "E0000 00:00:1795957882.503388   11658 meta_optimizer.cc:967] model_pruner failed: INVALID_ARGUMENT: Graph",
    "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.",
    "I1129 13:11:30.879835   11513 fork_posix.cc:71] Other threads are currently calling into gRPC, skipping fork() handlers",
    "WARNING:urllib3.connectionpool:Retrying (Retry(total=2, connect=None)) after connection broken by 'X'",
)
PRINTED = (
    "WARNING the monitor ended with exit code 1 and is restarted from its saved state",
    "error: There is no use case 'cats'; there are fraud, image.",
    "E0000 00:00:1795957881.872216   11658 cpu_allocator.cc:52] out of memory",
    "E0000 00:00:1795957881.872216   11658 cuda_platform.cc:52] failed call to cuInit: INTERNAL: NO_DEVICE (100)",
    "F0000 00:00:1795957881.872216   11658 cpu_feature_guard.cc:52] AVX instructions are missing",
    "W0000 00:00:1795957881.872216   11658 store.cc:9] the database is read-only",
    "Information I0000 in the middle of a line",
    "Segmentation fault",
)
HEADER = "import os, signal, sys\nfrom pipeline.local.library_messages import filter_library_messages\n"


def run_filtered(code: str, **options: object) -> tuple[int, str]:
    """Run code inside the filter on a terminal."""
    block = "\n".join(f"    {line}" for line in code.splitlines())
    return run_on_terminal(
        sys.executable, "-c", f"{HEADER}with filter_library_messages():\n{block}\nos.write(2, b'end')", **options
    )


def test_messages_of_libraries_are_dropped_and_other_lines_printed() -> None:
    lines = "".join(f"{dropped}\n{printed}\n" for dropped, printed in zip(DROPPED, PRINTED, strict=True))
    code, text = run_filtered(f"os.write(2, {lines.encode()!r})")
    assert code == 0 and text.splitlines() == [*PRINTED, "end"]


def test_python_errors_pass_and_the_stream_says_that_it_is_a_terminal() -> None:
    code, text = run_filtered("print('ours', sys.stderr.isatty(), file=sys.stderr)\nraise ValueError('wrong')")
    assert code == 1 and text.startswith("ours True\n") and text.endswith("ValueError: wrong\n")


def test_a_crash_loses_no_line() -> None:
    """Under a shell, as the terminal is closed when the first process of its session ends."""
    shell = "import ctypes, os, sys\nctypes.CDLL(None).prctl(36, 1)  # the orphans of its children become its children"
    shell += (
        "\nos.spawnv(os.P_WAIT, sys.executable, sys.argv)\ntry:\n    os.wait()\nexcept ChildProcessError:\n    pass"
    )
    crash = (
        f"{HEADER}with filter_library_messages():\n    os.write(2, b'{PRINTED[2]}\\n{DROPPED[1]}\\n')\n    os.abort()"
    )
    assert run_on_terminal(sys.executable, "-c", shell, "-c", crash) == (0, PRINTED[2] + "\n")


def test_ctrl_c_reaches_the_command_and_its_last_words_are_printed() -> None:
    def press(text: str, terminal: int) -> None:
        if text.endswith("ready\r\n"):
            os.write(terminal, b"\x03")

    wait = "try:\n    print('ready', file=sys.stderr)\n    signal.pause()\n"
    code = wait + "except KeyboardInterrupt:\n    os.write(2, b'bye\\n')"
    assert run_filtered(code, react=press) == (0, "ready\n^Cbye\nend")


def test_log_of_a_run_has_every_message(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    code = (
        f"from pathlib import Path\nfrom pipeline.session import redirect_stderr\nwith redirect_stderr(Path({str(log)!r})):\n"
        f"    os.write(2, b'{DROPPED[1]}\\n')\n    print(sys.stderr.isatty(), file=sys.stderr)\nprint('back', file=sys.stderr)"
    )
    assert run_filtered(code) == (0, "back\nend")
    assert log.read_text() == f"{DROPPED[1]}\nFalse\n"


def test_child_that_outlives_the_command_does_not_hold_it_up() -> None:
    program = "['sh', '-c', 'sleep 3; echo late >&2'], stdin=DEVNULL, stdout=DEVNULL, start_new_session=True"
    assert run_filtered(f"from subprocess import DEVNULL, Popen\nPopen({program})") == (0, "end")


def test_without_a_terminal_nothing_is_dropped() -> None:
    code = f"{HEADER}with filter_library_messages():\n    os.write(2, b'{DROPPED[0]}')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stderr == DROPPED[0]


def test_text_without_a_line_break_is_printed_before_the_next_one() -> None:
    """Such as the last line of a progress table."""
    (source, sink), (target, output) = os.pipe(), os.pipe()
    copying = threading.Thread(target=copy_other_lines, args=(source, output), daemon=True)
    copying.start()
    os.write(sink, b"first\nhalf")
    text = b""
    while len(text) < len(b"first\nhalf") and select.select([target], [], [], 60)[0]:
        text += os.read(target, 100)
    os.close(sink)
    copying.join()
    assert text == b"first\nhalf"


@pytest.mark.slow
def test_compiled_pipeline_is_the_only_line_on_the_terminal(tmp_path: Path) -> None:
    command = sys.executable, "-m", "cli.main", "compile", "fraud", "-o", tmp_path / "spec.yaml"
    code, text = run_on_terminal(*command)
    assert code == 0 and text.startswith(str(tmp_path / "spec.yaml")) and text.count("\n") == 1
