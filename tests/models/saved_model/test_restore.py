"""Restoring is refused if the code builds other variables than the export has; the contract tests restore an export."""

from types import SimpleNamespace

import pytest
from support.built_case import get_built_case
from support.tiny_case import model as tiny
from support.tiny_case.case import CASE as TINY

from models.input import Transform
from models.saved_model import restore

pytestmark = pytest.mark.system


def test_other_variables_are_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    small_run = get_built_case(TINY, tmp_path_factory)
    wider = SimpleNamespace(
        __name__="wider", build=lambda settings, *rest: tiny.build({**settings, "width": 65}, *rest)
    )
    with pytest.raises(ValueError, match="do not match those that wider builds now"):
        restore.restore_model(str(small_run.export), wider, Transform(str(small_run.graph)))
