"""The comparison of a folder's and a bucket's runs."""

from benchmarks.bucket import compare


def test_table_has_medians_and_their_difference_by_stage():
    folder = [{"seconds": {"Trainer": seconds, "all": seconds + 1}} for seconds in (10.0, 30.0, 11.0)]
    bucket = [{"seconds": {"Trainer": seconds, "all": seconds + 3}} for seconds in (13.0, 12.0, 50.0)]
    trainer, total = compare({"folder": folder, "bucket": bucket})
    assert trainer == {"stage": "Trainer", "folder s": 11.0, "bucket s": 13.0, "difference s": 2.0}
    assert total["difference s"] == 4.0
