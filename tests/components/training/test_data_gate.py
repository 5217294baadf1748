"""The data gate: a run without anomalies passes, and every anomaly stops it with a remedy."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tfx  # noqa: F401  installs a stub for a part of tfx-bsl that was removed and that TFDV imports
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2
from tfx.types import standard_artifacts

from components.training.data_gate import DEFAULT_REMEDY, REMEDY, DataGate
from models.catalog import find_use_case
from models.errors import GateError

Anomalies = anomalies_pb2.Anomalies


def finding(feature: str, kind: str, description: str = "What was seen.") -> Anomalies:
    anomalies = Anomalies()
    anomalies.anomaly_info[feature].reason.add(type=anomalies_pb2.AnomalyInfo.Type.Value(kind), description=description)
    return anomalies


def run_gate(folder: Path, **splits: Anomalies) -> None:
    """Run the component's executor on an artifact with these splits."""
    artifact = standard_artifacts.ExampleAnomalies()
    artifact.uri = str(folder)
    for split, anomalies in splits.items():
        (folder / f"Split-{split}").mkdir(parents=True)
        (folder / f"Split-{split}" / "SchemaDiff.pb").write_bytes(anomalies.SerializeToString())
    DataGate.EXECUTOR_SPEC.executor_class().Do({"anomalies": [artifact]}, {}, {})


def get_refusal(folder: Path, **splits: Anomalies) -> str:
    with pytest.raises(GateError) as caught:
        run_gate(folder, **splits)
    assert caught.value.gate == "data"
    return str(caught.value)


def test_no_anomaly_in_any_split_passes(tmp_path: Path) -> None:
    baseline = schema_pb2.Schema()
    run_gate(tmp_path, train=Anomalies(baseline=baseline), valid=Anomalies(), eval=Anomalies())


def test_empty_artifact_is_refused(tmp_path: Path) -> None:
    assert "no split" in get_refusal(tmp_path)


@pytest.mark.parametrize("split", ["train", "valid", "eval"])
def test_one_finding_in_one_split_refuses(tmp_path: Path, split: str) -> None:
    splits = {name: Anomalies() for name in ("train", "valid", "eval")}
    splits[split] = finding("amount", "FLOAT_TYPE_SMALL_FLOAT")
    assert get_refusal(tmp_path, **splits).startswith(
        f"1 finding(s): feature 'amount' in {split} breaks FLOAT_TYPE_SMALL_FLOAT"
    )


@pytest.mark.parametrize("kind", [*REMEDY, "SCHEMA_TRAINING_SERVING_SKEW", "FLOAT_TYPE_NOT_FLOAT"])
def test_each_kind_names_feature_split_rule_observation_and_remedy(tmp_path: Path, kind: str) -> None:
    reason = get_refusal(tmp_path, eval=finding("channel", kind, "Seen: 3 rows."))
    assert (
        reason
        == f"1 finding(s): feature 'channel' in eval breaks {kind}: Seen: 3 rows; {REMEDY.get(kind, DEFAULT_REMEDY)}"
    )


def test_every_remedy_belongs_to_a_tfdv_rule() -> None:
    assert set(REMEDY) <= set(anomalies_pb2.AnomalyInfo.Type.keys())


def test_all_findings_are_in_one_message(tmp_path: Path) -> None:
    both = finding("amount", "FLOAT_TYPE_BIG_FLOAT")
    both.MergeFrom(finding("device", "ENUM_TYPE_UNEXPECTED_STRING_VALUES"))
    both.anomaly_info["amount"].reason.add(type=anomalies_pb2.AnomalyInfo.FEATURE_TYPE_LOW_FRACTION_PRESENT)
    reason = get_refusal(tmp_path, train=both, eval=finding("amount", "FLOAT_TYPE_BIG_FLOAT"))
    assert reason.startswith("4 finding(s)") and reason.count(" | ") == 3
    assert reason.count("in train breaks") == 3 and reason.count("in eval breaks") == 1 and "'device'" in reason


def test_a_finding_about_a_whole_split_refuses(tmp_path: Path) -> None:
    anomalies = Anomalies()
    kind = anomalies_pb2.AnomalyInfo.DATASET_LOW_NUM_EXAMPLES
    anomalies.dataset_anomaly_info.reason.add(type=kind, description="There are 3 examples, and 100 are needed.")
    reason = get_refusal(tmp_path, valid=anomalies)
    assert "the split valid" in reason and "DATASET_LOW_NUM_EXAMPLES" in reason
    assert "There are 3 examples" in reason and DEFAULT_REMEDY in reason


def test_a_split_without_an_example_refuses(tmp_path: Path) -> None:
    reason = get_refusal(tmp_path, train=Anomalies(), valid=Anomalies(data_missing=True))
    assert "the split valid" in reason and "no example" in reason


def test_a_finding_without_a_reason_refuses_too(tmp_path: Path) -> None:
    anomalies = Anomalies()
    anomalies.anomaly_info["amount"].description = "Something is off."
    reason = get_refusal(tmp_path, train=anomalies)
    assert "'amount' in train" in reason and "Something is off" in reason


# The anomalies below are found by TFDV with the fraud case's curated schema.

GOOD = {"amount": [12.5, 80.0, 3.2, 41.0], "channel": ["chip", "online", "chip", "swipe"]}


@pytest.fixture(scope="module")
def schema() -> schema_pb2.Schema:
    """The curated schema, limited to the columns of these tests."""
    whole = text_format.Parse(find_use_case("fraud").schema_path.read_text(), schema_pb2.Schema())
    features = [feature for feature in whole.feature if feature.name in GOOD]
    domains = [domain for domain in whole.string_domain if domain.name in GOOD]
    return schema_pb2.Schema(feature=features, string_domain=domains)


def validate(schema: schema_pb2.Schema, **changes: list | None) -> Anomalies:
    import tensorflow_data_validation as tfdv

    columns = {name: values * 50 for name, values in {**GOOD, **changes}.items() if values is not None}
    statistics = tfdv.generate_statistics_from_dataframe(pd.DataFrame(columns).astype({"amount": np.float32}))
    return tfdv.validate_statistics(statistics, schema)


def test_good_purchases_pass(tmp_path: Path, schema: schema_pb2.Schema) -> None:
    run_gate(tmp_path, train=validate(schema))


def test_a_negative_amount_is_named(tmp_path: Path, schema: schema_pb2.Schema) -> None:
    reason = get_refusal(tmp_path, train=validate(schema, amount=[12.5, -80.0, 3.2, 41.0]))
    assert reason.startswith("1 finding(s): feature 'amount' in train breaks FLOAT_TYPE_SMALL_FLOAT")
    assert "-80" in reason and "fix or drop the rows below the minimum" in reason


@pytest.mark.parametrize(("value", "kind"), [(np.nan, "NAN"), (np.inf, "INF")])
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_an_amount_that_is_no_finite_number_is_named(
    tmp_path: Path, schema: schema_pb2.Schema, value: float, kind: str
) -> None:
    import tensorflow_data_validation as tfdv
    from tensorflow_data_validation.statistics import stats_impl

    amounts = pa.array([[number] for number in (12.5, value, 3.2, 41.0)], pa.list_(pa.float32()))
    batch = pa.RecordBatch.from_arrays([amounts], ["amount"])  # in a data frame, NaN would be a missing value
    statistics = stats_impl.generate_statistics_in_memory(batch)
    only_amount = schema_pb2.Schema(feature=[feature for feature in schema.feature if feature.name == "amount"])
    reason = get_refusal(tmp_path, train=tfdv.validate_statistics(statistics, only_amount))
    assert f"'amount' in train breaks FLOAT_TYPE_HAS_{kind}" in reason and "fix or drop the rows" in reason


def test_a_flood_of_unknown_categories_is_named(tmp_path: Path, schema: schema_pb2.Schema) -> None:
    reason = get_refusal(tmp_path, eval=validate(schema, channel=["chip", "crypto", "crypto", "swipe"]))
    assert reason.startswith("1 finding(s): feature 'channel' in eval breaks ENUM_TYPE_UNEXPECTED_STRING_VALUES")
    assert "crypto" in reason and "add the new values" in reason


def test_a_few_unknown_categories_pass(tmp_path: Path, schema: schema_pb2.Schema) -> None:
    many = GOOD["channel"] * 49
    run_gate(
        tmp_path, train=validate(schema, amount=GOOD["amount"] * 50, channel=[*many, "chip", "crypto", "chip", "chip"])
    )


def test_a_missing_column_is_named(tmp_path: Path, schema: schema_pb2.Schema) -> None:
    reason = get_refusal(tmp_path, train=validate(schema, channel=None))
    assert reason.startswith("1 finding(s): feature 'channel' in train breaks SCHEMA_MISSING_COLUMN")
    assert "restore the column" in reason


def test_missing_values_are_named(tmp_path: Path, schema: schema_pb2.Schema) -> None:
    reason = get_refusal(tmp_path, train=validate(schema, channel=["chip", None, "chip", "swipe"]))
    assert "feature 'channel' in train breaks FEATURE_TYPE_LOW_FRACTION_PRESENT" in reason and "find out why" in reason
