"""Statistics of windows in one pass: each window's equal those that TFDV computes from its rows alone."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.built_case import pipeline
from tensorflow_metadata.proto.v0 import statistics_pb2

from components.monitoring import window_statistics
from serving.gateway.log import tfrecords
from serving.gateway.log.tf_example import encode_example

pytestmark = pytest.mark.system

FEATURES = ("amount", "channel", "absent")


def write_shards(folder: Path, window: int, shards: int) -> pd.DataFrame:
    """Write shards of a window's rows, some without a channel; return the same rows as a data frame."""
    rng = np.random.default_rng(window)
    amounts = np.exp(rng.normal(3 + window, 0.5, 3000)).astype(np.float32)
    channels = rng.choice(["online", "till", None], 3000, p=[0.5, 0.3, 0.2])
    rows = [
        encode_example({"amount": [float(amount)], "other": [1], "channel": channel})
        for amount, channel in zip(amounts, channels, strict=True)
    ]
    (folder / f"Split-window-{window}").mkdir(parents=True)
    for n in range(shards):
        data = b"".join(tfrecords.frame_record(row) for row in rows[n::shards])
        (folder / f"Split-window-{window}" / f"examples-{n:05d}").write_bytes(data)
    return pd.DataFrame({"amount": amounts, "channel": channels})


def test_each_window_has_the_statistics_of_its_own_rows(tmp_path: Path) -> None:
    import tensorflow_data_validation as tfdv

    frames = {f"window-{n}": write_shards(tmp_path / "examples", n, shards) for n, shards in ((1, 1), (2, 3))}
    window_statistics.write_statistics(pipeline(), tmp_path / "examples", list(frames), FEATURES, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"Split-{name}" for name in frames}
    for name, frame in frames.items():
        read = (tmp_path / "out" / f"Split-{name}" / window_statistics.FILE).read_bytes()
        (written_statistics,) = statistics_pb2.DatasetFeatureStatisticsList.FromString(read).datasets
        (expected,) = tfdv.generate_statistics_from_dataframe(
            frame, tfdv.StatsOptions(num_quantiles_histogram_buckets=50)
        ).datasets
        assert (written_statistics.name, written_statistics.num_examples) == ("", expected.num_examples) == ("", 3000)
        amount, channel = (
            {feature.path.step[0]: feature for feature in kind.features} for kind in (written_statistics, expected)
        )
        assert set(amount) == {"amount", "channel"}
        for part in ("mean", "std_dev", "min", "median", "max"):
            assert np.isclose(
                getattr(amount["amount"].num_stats, part), getattr(channel["amount"].num_stats, part), rtol=0.02
            )
        shares = [
            {bucket.label: bucket.sample_count for bucket in features["channel"].string_stats.rank_histogram.buckets}
            for features in (amount, channel)
        ]
        assert shares[0] == shares[1] == frame["channel"].value_counts().to_dict()
        quantiles = [
            histogram for histogram in amount["amount"].num_stats.histograms if histogram.type == histogram.QUANTILES
        ]
        assert [len(histogram.buckets) for histogram in quantiles] == [window_statistics.BUCKETS]
