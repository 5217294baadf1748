"""Programs that tests start and that not every machine has."""

import os
import shutil

import pytest


def needs(*programs: str) -> str:
    """The first of the programs that is on this machine; without one skips, or fails where that may not be: under CI."""
    found = next(filter(None, map(shutil.which, programs)), None)
    if not found:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"This machine has no {' or '.join(programs)}.")
    return found
