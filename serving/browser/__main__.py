"""``python -m serving.browser [--port N] CASE=VERSION_FOLDER ...``: serves the page until it is interrupted."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from serving.browser.site import Site, server

PORT = 8700


def serve(versions: Mapping[str, Path], port: int) -> None:
    """Serves the page for these versions, by case, until it is interrupted.

    Raises:
        FileNotFoundError: if LiteRT.js or a model is missing, naming the command that brings it.
        OSError: if the port is taken.
    """
    with server(Site(versions), port) as serving:
        print(f"http://127.0.0.1:{serving.server_port}/ (Ctrl-C ends it)", flush=True)
        try:
            serving.serve_forever()
        except KeyboardInterrupt:
            pass


def main() -> int:
    """The program; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m serving.browser", description="Serves the browser page.")
    parser.add_argument("versions", nargs="+", metavar="CASE=FOLDER", help="a pushed version's folder")
    parser.add_argument("--port", type=int, default=PORT, help="0 takes a free one")
    asked = parser.parse_args()
    pairs = [word.partition("=") for word in asked.versions]
    if not all(name and folder for name, _, folder in pairs):
        parser.error("a version is CASE=FOLDER, such as fraud=runs/fraud/versions/1")
    try:
        serve({name: Path(folder) for name, _, folder in pairs}, asked.port)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
