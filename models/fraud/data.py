"""From folders of purchases to examples with their point-in-time history, split by time."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.errors import DataError
from models.fraud import purchases
from models.fraud.history.point_in_time import MerchantDays, customer_features, merchant_features

SHARDS = 8
DAY_US = 86_400_000_000


def prepare(data: str | None, cache: Path, settings: Mapping[str, Any]) -> Path:
    """The folder of spans: the one asked for, or generated purchases, written on first use."""
    if data:
        return Path(data)
    from models.fraud.generator.span_generator import generate

    folder = cache / f"fraud-{settings['rows']}-{settings['days']}-{settings['data_seed']}"
    if not (folder / "truth.json").exists():
        generate(folder, rows=settings["rows"], days=settings["days"], seed=settings["data_seed"])
    return folder


def generate(
    out: Path, rows: int, days: int, seed: int, drift: Sequence[str], progress: Callable[[int, int], None]
) -> str:
    """Writes generated purchases, a folder a day, and their truth manifest; returns a line on what was written.

    Raises:
        DataError: for a drift that cannot be read, or a folder that is not empty.
    """
    from models.fraud.generator.drift import Drift
    from models.fraud.generator.span_generator import generate as write

    try:
        write(out, rows=rows, days=days, seed=seed, drift=[Drift.parse(one) for one in drift], progress=progress)
    except FileExistsError as error:
        raise DataError(f"{error} Give another --out.") from error
    return f"{out}: {days} days, manifest in {out / 'truth.json'}"


def check(spans: Mapping[int, Path], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Looks at every file's columns and row count before anything runs; returns the settings that the data decides.

    Returns:
        ``first_day`` and ``last_day`` of the window, in days since the epoch.

    Raises:
        DataError: for an unreadable file, a missing column, an empty day or too short a window.
    """
    bounds = [purchases.check(path, settings["columns"]) for path in spans.values()]
    found = {"first_day": min(low for low, _ in bounds), "last_day": max(high for _, high in bounds)}
    splits({**settings, **found})
    return found


def splits(settings: Mapping[str, Any]) -> dict[str, range]:
    """Days of each split, in days since the epoch, with the label delay between valid and eval and after eval.

    On the first day of eval only labels of purchases a label delay older were known: what comes later is not used
    for training. Labels of the last days are not ripe yet, so they are in no split.

    Raises:
        DataError: if no day is left for training, naming the least number of days.
    """
    first, last = settings["first_day"], settings["last_day"]
    delay, eval_days, valid_days = (settings[name] for name in ("label_delay_days", "eval_days", "valid_days"))
    eval_end = last + 1 - delay
    valid_end = eval_end - eval_days - delay
    train_end = valid_end - valid_days
    start = first + settings["warmup_days"]
    if train_end <= start:
        least = settings["warmup_days"] + 1 + valid_days + eval_days + 2 * delay
        raise DataError(
            f"The window has {last - first + 1} days, and warm-up, train, valid, eval and two label delays need at least "
            f"{least}; take more spans, or set warmup_days, valid_days, eval_days or label_delay_days lower."
        )
    return {
        "train": range(start, train_end),
        "valid": range(train_end, valid_end),
        "eval": range(eval_end - eval_days, eval_end),
    }


def unseen(settings: Mapping[str, Any]) -> int:
    """How many of a window's last days training does not look at: valid, eval and the delays of their labels."""
    return settings["last_day"] + 1 - splits(settings)["train"].stop


def examples(pipeline: Any, spans: Mapping[int, Path], settings: Mapping[str, Any]) -> Any:
    """Batches of examples, ``(split, pa.RecordBatch)``.

    Purchases are grouped by customer, a shard of customers an element, so that a shard's history is computed in one go;
    what is known of merchants is a small table beside it.
    """
    import apache_beam as beam  # here, since planning a run needs this module and not Beam

    days = pipeline | "Days" >> beam.Create([str(path) for path in spans.values()])
    tables = days | "Read" >> beam.Map(purchases.read, settings["columns"], settings["label_delay_days"])
    merchants = tables | "MerchantDays" >> beam.Map(MerchantDays.of) | beam.CombineGlobally(_merge)
    return (
        tables
        | "ByCustomer" >> beam.FlatMap(_shards)
        | beam.GroupByKey()
        | "History" >> beam.FlatMap(_history, beam.pvalue.AsSingleton(merchants), dict(settings))
    )


def _merge(tables: Iterable[MerchantDays]) -> MerchantDays:
    return MerchantDays.merge(*tables)


def _shards(table: pa.Table) -> Iterator[tuple[int, bytes]]:
    """Rows by a stable hash of the customer, as Arrow bytes: a table crosses processes whole."""
    codes = pc.dictionary_encode(table["customer_id"]).combine_chunks()
    shard_of = np.array([purchases.stable_hash(name) % SHARDS for name in codes.dictionary.to_pylist()])
    shard = shard_of[codes.indices.to_numpy()]
    for number in range(SHARDS):
        rows = np.flatnonzero(shard == number)
        if len(rows):
            yield number, purchases.pack(table.take(pa.array(rows)))


def _history(
    element: tuple[int, Any], merchants: MerchantDays, settings: Mapping[str, Any]
) -> Iterator[tuple[str, pa.RecordBatch]]:
    # Groups come in any order: sorted, the same data gives the same shards, and a run can be repeated.
    order = [("event_time", "ascending"), ("transaction_id", "ascending")]
    table = pa.concat_tables([purchases.unpack(part) for part in element[1]]).sort_by(order)
    table = merchant_features(customer_features(table), merchants, settings["label_delay_days"])
    day = pc.cast(table["event_time"], pa.int64()).to_numpy() // DAY_US
    parts = splits(settings)
    for split, days in parts.items():
        # What is trained on was known when eval began; a later label would tell the model of eval's time.
        as_of = settings["last_day"] + 1 if split == "eval" else parts["eval"].start
        rows = _known(table, as_of * DAY_US) & (day >= days.start) & (day < days.stop)
        yield from ((split, batch) for batch in purchases.to_examples(table.filter(pa.array(rows))))
    # What is usual needs days that training has not looked at, and no labels: so those count whose labels are not ripe.
    rows = pa.array(day >= parts["valid"].stop)
    yield from (("normal", batch) for batch in purchases.to_examples(table.filter(rows)))


def _known(table: pa.Table, as_of: int) -> np.ndarray:
    """Which labels were known at ``as_of``, in microseconds since the epoch, ``[rows]``."""
    label_time = pc.fill_null(pc.cast(table["label_time"], pa.int64()), as_of + 1).to_numpy()
    return (label_time <= as_of) & pc.is_valid(table["is_fraud"]).to_numpy()
