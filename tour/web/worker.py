"""The process that computes evidence: TensorFlow is imported here and never in the process that answers pages.

Each line on standard input names a question; each line on standard output is what came of it, as JSON.
"""

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
NICE = 10  # far behind whatever serves


def main() -> None:
    """Computes until standard input ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    home = Path(sys.argv[1])
    from tour import bundle, notes

    for line in sys.stdin:
        asked = json.loads(line)
        try:
            told = bundle.compute_question(notes.read()[asked["id"]], asked["case"], home)
        except ValueError as error:  # nothing has been pushed
            told = {"error": str(error), "results": []}
        answers.write(json.dumps(told, default=str) + "\n")


if __name__ == "__main__":
    main()
