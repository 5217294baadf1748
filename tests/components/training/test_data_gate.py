"""The data gate: nothing to say lets a run pass, and every finding stops it in words that help."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tfx  # noqa: F401  puts a stand-in where TFDV looks for a part of tfx-bsl that is gone
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2
from tfx.types import standard_artifacts

from components.training.data_gate import DEFAULT_REMEDY, REMEDY, DataGate
from models.catalog import find
from models.errors import Refused

Anomalies = anomalies_pb2.Anomalies


def finding(feature: str, kind: str, description: str = "What was seen.") -> Anomalies:
    found = Anomalies()
    found.anomaly_info[feature].reason.add(type=anomalies_pb2.AnomalyInfo.Type.Value(kind), description=description)
    return found


def gate(folder: Path, **splits: Anomalies) -> None:
    """Runs the component's executor on an artifact with these splits."""
    artifact = standard_artifacts.ExampleAnomalies()
    artifact.uri = str(folder)
    for split, anomalies in splits.items():
        (folder / f"Split-{split}").mkdir(parents=True)
        (folder / f"Split-{split}" / "SchemaDiff.pb").write_bytes(anomalies.SerializeToString())
    DataGate.EXECUTOR_SPEC.executor_class().Do({"anomalies": [artifact]}, {}, {})


def refusal(folder: Path, **splits: Anomalies) -> str:
    with pytest.raises(Refused) as caught:
        gate(folder, **splits)
    assert caught.value.gate == "data"
    return str(caught.value)


def test_no_anomaly_in_any_split_passes(tmp_path: Path) -> None:
    baseline = schema_pb2.Schema()
    gate(tmp_path, train=Anomalies(baseline=baseline), valid=Anomalies(), eval=Anomalies())


def test_nothing_validated_is_no_pass(tmp_path: Path) -> None:
    assert "no split" in refusal(tmp_path)


@pytest.mark.parametrize("split", ["train", "valid", "eval"])
def test_one_finding_in_one_split_refuses(tmp_path: Path, split: str) -> None:
    splits = {name: Anomalies() for name in ("train", "valid", "eval")}
    splits[split] = finding("amount", "FLOAT_TYPE_SMALL_FLOAT")
    assert refusal(tmp_path, **splits).startswith(
        f"1 finding(s): feature 'amount' in {split} breaks FLOAT_TYPE_SMALL_FLOAT"
    )


@pytest.mark.parametrize("kind", [*REMEDY, "SCHEMA_TRAINING_SERVING_SKEW", "FLOAT_TYPE_NOT_FLOAT"])
def test_each_kind_names_feature_split_rule_observation_and_remedy(tmp_path: Path, kind: str) -> None:
    said = refusal(tmp_path, eval=finding("channel", kind, "Seen: 3 rows."))
    assert (
        said
        == f"1 finding(s): feature 'channel' in eval breaks {kind}: Seen: 3 rows; {REMEDY.get(kind, DEFAULT_REMEDY)}"
    )


def test_every_remedy_is_for_a_rule_that_there_is() -> None:
    assert set(REMEDY) <= set(anomalies_pb2.AnomalyInfo.Type.keys())


def test_all_findings_are_named_at_once(tmp_path: Path) -> None:
    both = finding("amount", "FLOAT_TYPE_BIG_FLOAT")
    both.MergeFrom(finding("device", "ENUM_TYPE_UNEXPECTED_STRING_VALUES"))
    both.anomaly_info["amount"].reason.add(type=anomalies_pb2.AnomalyInfo.FEATURE_TYPE_LOW_FRACTION_PRESENT)
    said = refusal(tmp_path, train=both, eval=finding("amount", "FLOAT_TYPE_BIG_FLOAT"))
    assert said.startswith("4 finding(s)") and said.count(" | ") == 3
    assert said.count("in train breaks") == 3 and said.count("in eval breaks") == 1 and "'device'" in said


def test_a_finding_about_a_whole_split_refuses(tmp_path: Path) -> None:
    found = Anomalies()
    kind = anomalies_pb2.AnomalyInfo.DATASET_LOW_NUM_EXAMPLES
    found.dataset_anomaly_info.reason.add(type=kind, description="There are 3 examples, and 100 are needed.")
    said = refusal(tmp_path, valid=found)
    assert "the split valid" in said and "DATASET_LOW_NUM_EXAMPLES" in said
    assert "There are 3 examples" in said and DEFAULT_REMEDY in said


def test_a_split_without_an_example_refuses(tmp_path: Path) -> None:
    said = refusal(tmp_path, train=Anomalies(), valid=Anomalies(data_missing=True))
    assert "the split valid" in said and "no example" in said


def test_a_finding_without_a_reason_refuses_too(tmp_path: Path) -> None:
    found = Anomalies()
    found.anomaly_info["amount"].description = "Something is off."
    said = refusal(tmp_path, train=found)
    assert "'amount' in train" in said and "Something is off" in said


# From here on the findings are TFDV's own, on the fraud case's curated schema.

GOOD = {"amount": [12.5, 80.0, 3.2, 41.0], "channel": ["chip", "online", "chip", "swipe"]}


@pytest.fixture(scope="module")
def schema() -> schema_pb2.Schema:
    """The parts of the curated schema that the columns of these tests have."""
    whole = text_format.Parse(find("fraud").schema_path.read_text(), schema_pb2.Schema())
    kept = [feature for feature in whole.feature if feature.name in GOOD]
    domains = [domain for domain in whole.string_domain if domain.name in GOOD]
    return schema_pb2.Schema(feature=kept, string_domain=domains)


def validated(schema: schema_pb2.Schema, **changes: list | None) -> Anomalies:
    import tensorflow_data_validation as tfdv

    columns = {name: values * 50 for name, values in {**GOOD, **changes}.items() if values is not None}
    statistics = tfdv.generate_statistics_from_dataframe(pd.DataFrame(columns).astype({"amount": np.float32}))
    return tfdv.validate_statistics(statistics, schema)


def test_good_purchases_pass(tmp_path: Path, schema: schema_pb2.Schema) -> None:
    gate(tmp_path, train=validated(schema))


def test_a_negative_amount_is_named(tmp_path: Path, schema: schema_pb2.Schema) -> None:
    said = refusal(tmp_path, train=validated(schema, amount=[12.5, -80.0, 3.2, 41.0]))
    assert said.startswith("1 finding(s): feature 'amount' in train breaks FLOAT_TYPE_SMALL_FLOAT")
    assert "-80" in said and "mend or drop the rows below the minimum" in said


def test_a_flood_of_unknown_categories_is_named(tmp_path: Path, schema: schema_pb2.Schema) -> None:
    said = refusal(tmp_path, eval=validated(schema, channel=["chip", "crypto", "crypto", "swipe"]))
    assert said.startswith("1 finding(s): feature 'channel' in eval breaks ENUM_TYPE_UNEXPECTED_STRING_VALUES")
    assert "crypto" in said and "add the new values" in said


def test_a_few_unknown_categories_pass(tmp_path: Path, schema: schema_pb2.Schema) -> None:
    many = GOOD["channel"] * 49
    gate(
        tmp_path, train=validated(schema, amount=GOOD["amount"] * 50, channel=[*many, "chip", "crypto", "chip", "chip"])
    )


def test_a_missing_column_is_named(tmp_path: Path, schema: schema_pb2.Schema) -> None:
    said = refusal(tmp_path, train=validated(schema, channel=None))
    assert said.startswith("1 finding(s): feature 'channel' in train breaks SCHEMA_MISSING_COLUMN")
    assert "restore the column" in said


def test_missing_values_are_named(tmp_path: Path, schema: schema_pb2.Schema) -> None:
    said = refusal(tmp_path, train=validated(schema, channel=["chip", None, "chip", "swipe"]))
    assert "feature 'channel' in train breaks FEATURE_TYPE_LOW_FRACTION_PRESENT" in said and "find out why" in said
