"""Fixture: every use case, built once."""

from typing import Any

import pytest
from support.tiny_case.case import EVERY_CASE


@pytest.fixture(scope="module", params=EVERY_CASE, ids=lambda case: case.name)
def small_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Outputs of the stages of a use case, from raw data to an export."""
    from support.built_case import get_built_case

    return get_built_case(request.param, tmp_path_factory)
