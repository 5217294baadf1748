"""Worker process that computes evidence; it imports TensorFlow, which the web server's process never does.

Protocol: one JSON line on standard input per question, one JSON line with its results on standard output.
"""

import json
import os
import signal
import sys
from pathlib import Path

from models.training.distribute.local_processes import end_with_parent

NICE = 10  # a much lower priority than the server and the gateway


def main() -> None:
    """Compute evidence until standard input ends."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))
    # Libraries print to standard output, so file descriptor 1 is redirected and responses use a copy of it.
    responses = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    home = Path(sys.argv[1])
    from tour import bundle, notes

    for line in sys.stdin:
        request = json.loads(line)
        try:
            response = bundle.compute_question(notes.read()[request["id"]], request["case"], home)
        except ValueError as error:  # no run has been pushed
            response = {"error": str(error), "results": []}
        responses.write(json.dumps(response, default=str) + "\n")


if __name__ == "__main__":
    main()
