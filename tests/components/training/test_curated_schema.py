"""The part of a schema that the Evaluator reads."""

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.tfxio import tensor_representation_util

from components.training.curated_schema import select_features
from models.catalog import CASES


@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.name)
def test_selection_has_only_the_named_features_and_leaves_the_schema_unchanged(case):
    whole = text_format.Parse(case.schema_path.read_text(), schema_pb2.Schema())
    unchanged = whole.SerializeToString()
    part = select_features(whole, [case.label, case.watch[0]])
    assert {feature.name for feature in part.feature} == {case.label, case.watch[0]}
    by_name = {feature.name: feature for feature in whole.feature}
    assert all(feature == by_name[feature.name] for feature in part.feature)
    assert whole.SerializeToString() == unchanged
    representations = tensor_representation_util.GetTensorRepresentationsFromSchema(part) or {}
    assert set(representations) in ({case.label, case.watch[0]}, set())
