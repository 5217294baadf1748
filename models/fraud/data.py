"""Turn folders of purchases into examples with their point-in-time history, split by time."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.data.data_report import DataReport
from models.errors import DataError
from models.fraud import purchases
from models.fraud.history.point_in_time import MerchantDays, customer_features, merchant_features
from models.fraud.raw.account import account_for
from models.fraud.raw.duplicates import drop_copies
from models.fraud.raw.file_reader import ReadOptions
from models.fraud.raw.outliers import select_period
from models.fraud.raw.split_counts import count_splits, describe_gaps, find_faults, label_cutoff

SHARDS = 8
DAY_US = 86_400_000_000


def prepare(data: str | None, cache: Path, settings: Mapping[str, Any]) -> Path:
    """Return the folder of spans: ``data``, or generated purchases that are written on first use.

    Raises:
        DataError: if the generated days are too few for the splits.
    """
    if data:
        return Path(data)
    splits({**settings, "first_day": 0, "last_day": settings["days"] - 1})
    from models.fraud.generator.span_generator import generate

    folder = cache / f"fraud-{settings['rows']}-{settings['days']}-{settings['data_seed']}"
    if not (folder / "truth.json").exists():
        generate(folder, rows=settings["rows"], days=settings["days"], seed=settings["data_seed"])
    return folder


def generate(
    out: Path, rows: int, days: int, seed: int, drift: Sequence[str], progress: Callable[[int, int], None]
) -> str:
    """Write generated purchases, a folder a day, and their truth manifest; return a line that names them.

    Raises:
        DataError: for a drift that cannot be parsed, or a folder that is not empty.
    """
    from models.fraud.generator.drift import Drift
    from models.fraud.generator.span_generator import generate as write

    try:
        write(out, rows=rows, days=days, seed=seed, drift=[Drift.parse(text) for text in drift], progress=progress)
    except FileExistsError as error:
        raise DataError(f"{error} Give another --out.") from error
    return f"{out}: {days} days, manifest in {out / 'truth.json'}"


def check(spans: Mapping[int, Path], settings: Mapping[str, Any]) -> DataReport:
    """Read every file and account for it before anything runs.

    Returns:
        A report whose settings are ``first_day`` and ``last_day`` of the window, in days since the epoch.

    Raises:
        DataError: for settings that cannot be used, whatever the data.
    """
    account = account_for(spans, ReadOptions.of(settings), settings["outliers"] == "drop")
    if not account.period:
        return account.to_report({})
    first, last = account.period
    window = {"first_day": first, "last_day": last}
    try:
        split_days = splits({**settings, **window})
    except DataError as error:
        account.refused.append(str(error))
        return account.to_report(window)
    sizes = count_splits(account.labels, split_days, first, last)
    # Without the refused files a split may lack what it will have once they are corrected.
    account.refused += [] if account.refused else find_faults(sizes, split_days)
    return account.to_report(window, splits=sizes, notes=describe_gaps(account.labels, split_days, sizes))


def splits(settings: Mapping[str, Any]) -> dict[str, range]:
    """Return the days of each split, in days since the epoch, with a label delay between valid and eval and after eval.

    On the first day of eval, labels are complete only for purchases at least one label delay older; later purchases are not
    used for training. Labels of the last days are not complete yet, so those days are in no split.

    Raises:
        DataError: if no day is left for training; names the minimum number of days.
    """
    first, last = settings["first_day"], settings["last_day"]
    delay, eval_days, valid_days = (settings[name] for name in ("label_delay_days", "eval_days", "valid_days"))
    eval_end = last + 1 - delay
    valid_end = eval_end - eval_days - delay
    train_end = valid_end - valid_days
    start = first + settings["warmup_days"]
    if train_end <= start:
        minimum = settings["warmup_days"] + 1 + valid_days + eval_days + 2 * delay
        raise DataError(
            f"The window has {last - first + 1} days, but warm-up, train, valid, eval and two label delays need at least "
            f"{minimum}; use more spans, or lower warmup_days, valid_days, eval_days or label_delay_days."
        )
    return {
        "train": range(start, train_end),
        "valid": range(train_end, valid_end),
        "eval": range(eval_end - eval_days, eval_end),
    }


def unseen(settings: Mapping[str, Any]) -> int:
    """Number of days at the end of the window that training does not use: valid, eval and their label delays."""
    return settings["last_day"] + 1 - splits(settings)["train"].stop


def read_raw(span: Path, settings: Mapping[str, Any]) -> Iterator[pa.RecordBatch]:
    """Read the raw purchases of a span."""
    yield from purchases.read(span, settings).to_batches()


def examples(pipeline: Any, spans: Mapping[int, Path], settings: Mapping[str, Any]) -> Any:
    """Return batches of examples, ``(split, pa.RecordBatch)``.

    Purchases are grouped into shards of customers, one element each, so that the history of a shard is computed in one call.
    The history of merchants is a small table, passed as a side input.
    """
    import apache_beam as beam  # a local import: planning a run needs this module but not Beam

    days = pipeline | "Days" >> beam.Create([str(path) for path in spans.values()])
    tables = days | "Read" >> beam.Map(_read, dict(settings))
    shards = tables | "ByCustomer" >> beam.FlatMap(_shards) | beam.GroupByKey() | "Join" >> beam.Map(_join_spans)
    merchants = shards | "MerchantDays" >> beam.Map(MerchantDays.of) | beam.CombineGlobally(_merge)
    return shards | "History" >> beam.FlatMap(_history, beam.pvalue.AsSingleton(merchants), dict(settings))


def _read(span: str, settings: Mapping[str, Any]) -> pa.Table:
    """Read the purchases of a span that lie in the window; others were dropped when the data was checked."""
    return select_period(purchases.read(span, settings), settings["first_day"], settings["last_day"])


def _merge(tables: Iterable[MerchantDays]) -> MerchantDays:
    return MerchantDays.merge(*tables)


def _shards(table: pa.Table) -> Iterator[tuple[int, bytes]]:
    """Yield rows by a stable hash of the customer, as Arrow bytes, so that a table crosses processes as one value."""
    codes = pc.dictionary_encode(table["customer_id"]).combine_chunks()
    shard_of = np.array([purchases.stable_hash(name) % SHARDS for name in codes.dictionary.to_pylist()])
    shard = shard_of[codes.indices.to_numpy()]
    for number in range(SHARDS):
        rows = np.flatnonzero(shard == number)
        if len(rows):
            yield number, purchases.pack(table.take(pa.array(rows)))


def _join_spans(element: tuple[int, Any]) -> pa.Table:
    """Return the purchases of a shard of customers, those that two spans have once."""
    # Groups arrive in any order. Rows are sorted so that the same data gives the same shards and a run is reproducible.
    order = [("event_time", "ascending"), ("transaction_id", "ascending")]
    return drop_copies(pa.concat_tables([purchases.unpack(part) for part in element[1]])).sort_by(order)


def _history(
    table: pa.Table, merchants: MerchantDays, settings: Mapping[str, Any]
) -> Iterator[tuple[str, pa.RecordBatch]]:
    table = merchant_features(customer_features(table), merchants, settings["label_delay_days"])
    day = pc.cast(table["event_time"], pa.int64()).to_numpy() // DAY_US
    split_days = splits(settings)
    for split, days in split_days.items():
        cutoff = label_cutoff(split, split_days, settings["last_day"])
        rows = _has_label(table, cutoff * DAY_US) & (day >= days.start) & (day < days.stop)
        yield from ((split, batch) for batch in purchases.to_examples(table.filter(pa.array(rows))))
    # The reference profile needs days that training has not used, and no labels: the days with incomplete labels.
    rows = pa.array(day >= split_days["valid"].stop)
    yield from (("normal", batch) for batch in purchases.to_examples(table.filter(rows)))


def _has_label(table: pa.Table, as_of: int) -> np.ndarray:
    """Return which rows had a label at ``as_of``, in microseconds since the epoch, bool ``[rows]``."""
    label_time = pc.fill_null(pc.cast(table["label_time"], pa.int64()), as_of + 1).to_numpy()
    return (label_time <= as_of) & pc.is_valid(table["is_fraud"]).to_numpy()
