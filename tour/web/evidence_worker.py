"""Worker process that computes evidence: a request names a question and a case, the response has the results."""

import sys
from pathlib import Path
from typing import Any

from tour.web.worker_process import answer_requests

NICE = 10  # a much lower priority than the server and the gateway


def compute(request: dict[str, Any]) -> dict[str, Any]:
    """Compute the evidence of a question."""
    from tour import bundle, notes

    try:
        return bundle.compute_question(notes.read()[request["id"]], request["case"], Path(sys.argv[1]))
    except ValueError as error:  # no run has been pushed
        return {"error": str(error), "results": []}


if __name__ == "__main__":
    answer_requests(compute, NICE)
