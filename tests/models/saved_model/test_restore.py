"""A refusal where the code has moved on from what an export holds; that it comes back is in the contract of all cases."""

from types import SimpleNamespace

import pytest
from support.built_case import built
from support.tiny_case import model as tiny
from support.tiny_case.case import CASE as TINY

from models.input import Transform
from models.saved_model import restore

pytestmark = pytest.mark.system


def test_other_variables_are_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    done = built(TINY, tmp_path_factory)
    wider = SimpleNamespace(
        __name__="wider", build=lambda settings, *rest: tiny.build({**settings, "width": 65}, *rest)
    )
    with pytest.raises(ValueError, match="other variables than wider builds now"):
        restore.model(str(done.export), wider, Transform(str(done.graph)))
