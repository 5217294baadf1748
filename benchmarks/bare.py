"""The bare peer: what ``showcase run fraud`` does, as one plain script without TFX, Beam or any of their libraries.

It reads the same spans, derives the same features in its own way, fits the same network and baselines, evaluates, exports,
checks and copies, all in memory and in one process. What it leaves out is what the pipeline is for: artifacts, a cache,
lineage, resuming, splits that fit no memory. ``benchmarks/pipeline.py`` times the two side by side.

    python benchmarks/bare.py --data FOLDER [--out FOLDER]
"""

import argparse
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import lightgbm
import numpy as np
import polars as pl
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from models.fraud.case import CASE
from models.fraud.history import DAY, LONGEST, RISK_PRIOR, SECOND, UNIT, WINDOWS

# The module of the constants imports TFT for a function that is not called here: an empty module spares its seconds.
sys.modules["tensorflow_transform"] = ModuleType("tensorflow_transform")

from models.fraud import model as network  # noqa: E402
from models.fraud.features import (  # noqa: E402
    AMOUNTS,
    BUCKETS,
    CATEGORIES,
    COMPONENTS,
    COUNTS,
    MERCHANTS,
    PAST,
    RISKS,
    VOCABULARY,
    numeric_columns,
    past_steps,
)

LABEL = network.LABEL
PREDICT_BATCH = 4096
# As in components/baseline.py, components/lite_exporter.py and components/serving_check.py, which import TFX.
WIDE = 20_000_000
VARIANTS = ("float32", "dynamic", "float16", "int8")
REPRESENTATIVE, CHECKED, TIMED = 256, 2048, 200
REQUESTS, TOLERANCE = 32, 1e-5

# The curated schema: bounds, domains, the least share present, and the least share of values inside the domain.
BOUNDS = {
    "event_time": (0, math.inf), "amount": (0, 1e6), LABEL: (0, 1), "distance_km": (0, 25_000),
    "seconds_since_last": (0, LONGEST / SECOND), **dict.fromkeys((*COUNTS, *AMOUNTS[1:4]), (0, math.inf)),
    **dict.fromkeys(RISKS, (0, 1)),
}  # fmt: skip
DOMAINS = {
    "category": ["grocery", "restaurant", "fuel", "clothing", "pharmacy", "transport", "home", "entertainment",
                 "electronics", "digital", "travel", "sport", "none"],
    "channel": ["chip", "contactless", "swipe", "online", "none"],
    "device": ["terminal", "phone", "browser", "tablet", "watch", "none"],
}  # fmt: skip
PRESENT, IN_DOMAIN = 0.95, 0.98
IDS = ("transaction_id", "customer_id", "merchant_id")
PASTS = ("past_amount", "past_age", "past_merchant")
SCALARS = (*IDS, "event_time", LABEL, *CATEGORIES, *AMOUNTS, *COUNTS, *RISKS)
QUANTILES = np.linspace(0, 1, 11)
TOP = 20

Arrays = dict[str, np.ndarray]
Tensors = dict[str, tf.Tensor]


class Clock:
    """Seconds and rows of each step; a step is named on standard error as it ends."""

    def __init__(self) -> None:
        self.seconds = {"imports": _age()}
        self.rows: dict[str, int] = {}

    @contextmanager
    def step(self, name: str, rows: int = 0) -> Iterator[None]:
        """Times what is inside."""
        started = time.perf_counter()
        yield
        self.seconds[name], self.rows[name] = time.perf_counter() - started, rows
        print(f"{name:17} done     {self.seconds[name]:6.1f} s", file=sys.stderr, flush=True)


def main() -> None:
    """Does all steps and prints a JSON of what they took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="Folder of span-NNN folders with Parquet files.")
    parser.add_argument("--out", type=Path, help="Folder for the model and its versions; a temporary one by default.")
    parser.add_argument(
        "--min-pr-auc", type=float, default=CASE.settings["gates"]["min_pr_auc"], help="Least to be pushed."
    )
    told = parser.parse_args()
    clock = Clock()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            report = everything(told.data, told.out or Path(scratch), told.min_pr_auc, clock)
        except (ValueError, OSError, pl.exceptions.PolarsError) as error:
            sys.exit(f"error: {str(error).splitlines()[0]}")
        except KeyboardInterrupt:
            sys.exit(130)
    report |= {"seconds": clock.seconds, "rows": clock.rows, "total": _age(), "peak_mb": _peak_mb()}
    print(json.dumps(report, indent=1))


def everything(data: Path, out: Path, least: float, clock: Clock) -> dict[str, Any]:
    """From spans to a version folder, if PR-AUC is ``least`` or more; returns what came of it.

    Raises:
        ValueError: naming the gate and what it refused.
    """
    settings = {name: value for group in CASE.settings.values() for name, value in group.items()}
    with clock.step("read"):
        raw = read(data, settings["label_delay_days"])
    clock.rows["read"] = raw.height
    with clock.step("history", raw.height):
        splits = split(with_history(raw, settings["label_delay_days"]), settings)
    sizes = {name: frame.height for name, frame in splits.items()}
    with clock.step("statistics", sum(sizes.values())):
        check_schema({name: describe(frame) for name, frame in splits.items()})
    with clock.step("transform", sizes["train"]):
        preparation = Preparation(splits["train"], raw["merchant_id"].unique().sort().to_list())
        features = {name: preparation.arrays(frame) for name, frame in splits.items()}
    with clock.step("train"):
        model, epochs = fit(settings, features["train"], features["valid"])
        valid = features["valid"]
        point = network.operating_point(settings, valid[LABEL], predict(model, valid))
    clock.rows["train"] = sizes["train"] * epochs
    with clock.step("baselines", sizes["train"]):
        baselines = {name: baseline(make, features) for name, make in BASELINES.items()}
    with clock.step("evaluate", sizes["eval"]):
        metrics = evaluate(model, point, settings, splits["eval"], features["eval"])
    with clock.step("export", sizes["eval"]):
        export(out / "model", model, preparation, point, settings)
    with clock.step("lite", min(CHECKED, sizes["eval"])):
        variants = lite(out / "model", {name: values[:CHECKED] for name, values in features["eval"].items()}, settings)
    with clock.step("check", REQUESTS):
        names = raw["merchant_id"].unique().sort().to_list()
        check_session(out / "model", serialized(splits["eval"].head(REQUESTS), names), features["eval"])
    pr_auc = metrics["overall"]["pr_auc"]
    with clock.step("push"):
        version = push(out / "model", out / "versions") if pr_auc >= least else None
    return {
        "splits": sizes, "epochs": epochs, "pr_auc": pr_auc, "metrics": metrics,
        "baselines": baselines, "lite": variants, "version": version and version.name,
    }  # fmt: skip


def read(data: Path, delay: int) -> pl.DataFrame:
    """All purchases; a label without a time counts as known ``delay`` days after its purchase."""
    if not any(data.glob("span-*/*.parquet")):
        raise ValueError(f"{data} has no span-NNN folder with Parquet files.")
    frame = pl.read_parquet(data / "span-*" / "*.parquet")
    late = pl.col("event_time") + pl.duration(days=delay)
    known = pl.when(pl.col(LABEL).is_not_null()).then(pl.coalesce("label_time", late))
    return frame.with_columns(known.alias("label_time")).with_columns(
        pl.col("event_time", "label_time").cast(pl.Datetime("us")).cast(pl.Int64),
        *(pl.col(who + "_id").rank("dense").cast(pl.Int64).sub(1).alias(who) for who in ("customer", "merchant")),
    )


def with_history(frame: pl.DataFrame, delay: int) -> pl.DataFrame:
    """The purchases by customer and time, with what was known of their past; times become seconds."""
    frame = frame.sort("customer", "event_time", "transaction_id")
    columns = _customers(frame) | _merchants(frame, delay)
    return frame.with_columns(*(pl.Series(name, values) for name, values in columns.items()))


def _customers(frame: pl.DataFrame) -> Arrays:
    """Windows over earlier purchases of the same customer, and the last ``PAST`` of them, oldest first."""
    code, times, merchant = (frame[name].to_numpy() for name in ("customer", "event_time", "merchant"))
    amount = np.nan_to_num(frame["amount"].to_numpy(), posinf=0.0, neginf=0.0)
    here, first = np.arange(len(code)), np.searchsorted(code, code)
    axis = code * (np.ptp(times) + LONGEST + 1) + times - times.min()
    total = np.concatenate([[0], np.cumsum(np.rint(amount * UNIT).astype(np.int64))])
    found = {}
    for days in WINDOWS:
        start = np.searchsorted(axis, axis - days * DAY)
        found[f"customer_count_{days}d"] = here - start
        found[f"customer_amount_{days}d"] = (total[here] - total[start]) / UNIT
    gap = np.where(here > first, times - times[here - 1], LONGEST)
    found["seconds_since_last"] = np.minimum(gap, LONGEST) / SECOND
    rows = here[:, None] + np.arange(-PAST, 0)
    there, rows = rows >= first[:, None], np.maximum(rows, 0)
    found["past_amount"] = np.where(there, amount[rows], 0)
    found["past_age"] = np.where(there, (times[:, None] - times[rows]) / SECOND, 0)
    floats = {name: values.astype(np.float32) for name, values in found.items()}
    return floats | {"past_merchant": np.where(there, merchant[rows], -1).astype(np.int32)}


def _merchants(frame: pl.DataFrame, delay: int) -> Arrays:
    """Purchases at the merchant over whole days that lie ``delay`` back, and the share known as fraud by now."""
    code, fraud = frame["merchant"].to_numpy(), frame.select((pl.col(LABEL) == 1).fill_null(False))[LABEL].to_numpy()
    today = frame["event_time"].to_numpy() // DAY
    known, today = frame["label_time"].fill_null(0).to_numpy() // DAY - today.min(), today - today.min()
    shape, found = (code.max() + 1, today.max() + 1), {}
    for days in WINDOWS:
        begin, end = today + delay + 1, today + delay + 1 + days
        count = _standing(shape, code, begin, end)[code, today]
        late = np.minimum(np.maximum(begin, known + 1), end)
        frauds = _standing(shape, code[fraud], late[fraud], end[fraud])[code, today]
        found[f"merchant_count_{days}d"] = count.astype(np.float32)
        found[f"merchant_risk_{days}d"] = (frauds / (count + RISK_PRIOR)).astype(np.float32)
    return found


def _standing(shape: tuple[int, int], code: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """How many of the intervals ``[begin, end)`` hold each merchant's each day, ``[merchants, days]``."""
    width = shape[1] + 1
    ends = [np.bincount(code * width + np.minimum(edge, shape[1]), minlength=shape[0] * width) for edge in (begin, end)]
    return (ends[0] - ends[1]).reshape(shape[0], width).cumsum(axis=1)


def split(frame: pl.DataFrame, settings: Mapping[str, Any]) -> dict[str, pl.DataFrame]:
    """Rows of each split by time, of those whose label was known in time: when eval begins, and for eval at the end."""
    day, delay = frame["event_time"] // DAY, settings["label_delay_days"]
    last, start = day.max() + 1, day.min() + settings["warmup_days"]
    held = last - delay - settings["eval_days"]
    valid = held - delay - settings["valid_days"]
    if valid <= start:
        raise ValueError(f"The window has {last - day.min()} days, too few for warm-up, splits and label delays.")
    bounds = {"train": (start, valid, held), "valid": (valid, held - delay, held), "eval": (held, last - delay, last)}
    known = {
        name: frame[LABEL].is_not_null() & (frame["label_time"] <= as_of * DAY)
        for name, (_, _, as_of) in bounds.items()
    }
    frame = frame.with_columns(pl.col("event_time") // SECOND)
    return {name: frame.filter(known[name] & (day >= low) & (day < high)) for name, (low, high, _) in bounds.items()}


def describe(frame: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Statistics of every feature of a split."""
    found = {}
    for name in (*SCALARS, *PASTS):
        column = frame[name].explode() if name in PASTS else frame[name]
        facts = {"count": len(column) - column.null_count(), "missing": column.null_count() / max(len(column), 1)}
        words = name in (*IDS, *CATEGORIES, "past_merchant")
        found[name] = facts | (_words(column) if words else _numbers(column.drop_nulls().to_numpy()))
    return found


def _words(column: pl.Series) -> dict[str, Any]:
    counts = column.drop_nulls().value_counts(sort=True)
    return {"unique": counts.height, "top": dict(counts.head(TOP).iter_rows())}


def _numbers(values: np.ndarray) -> dict[str, Any]:
    return {
        "mean": values.mean(dtype=float), "std": values.std(dtype=float), "zeros": int((values == 0).sum()),
        "quantiles": np.quantile(values, QUANTILES).tolist(), "histogram": np.histogram(values, bins=10)[0].tolist(),
    }  # fmt: skip


def check_schema(statistics: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Compares with bounds, domains and least presence.

    Raises:
        ValueError: naming every feature that breaks one.
    """
    found = []
    for part, features in statistics.items():
        for name, facts in features.items():
            if facts["missing"] > (1 - PRESENT if name in DOMAINS else 0):
                found.append(f"{name} in {part} is missing in {facts['missing']:.1%}")
            low, high = BOUNDS.get(name, (-math.inf, math.inf))
            if "quantiles" in facts and not low <= facts["quantiles"][0] <= facts["quantiles"][-1] <= high:
                found.append(f"{name} in {part} is outside {low} to {high}")
            inside = sum(facts["top"].get(value, 0) for value in DOMAINS.get(name, ()) if "top" in facts)
            if name in DOMAINS and inside < IN_DOMAIN * facts["count"]:
                found.append(f"{name} in {part} has unknown values")
    if found:
        raise ValueError(f"the data breaks the schema: {'; '.join(found)}.")


class Preparation(tf.Module):
    """Raw features to what the network reads, in plain TensorFlow operations; its constants are learnt on train."""

    def __init__(self, train: pl.DataFrame, merchants: list[str]):
        super().__init__()
        self.names = np.array([*merchants, ""], object)  # by number; -1 is none
        numeric = numeric_columns(_raw(train, self.names)).numpy().astype(float)
        spread = numeric.std(axis=0)
        self.mean, self.std = numeric.mean(axis=0, dtype=float), np.where(spread == 0, 1.0, spread)
        order = np.linalg.eigh(np.cov((numeric - self.mean) / self.std, rowvar=False))[1][:, ::-1]
        self.components = order[:, :COMPONENTS].astype(np.float32)
        self.tables = [_vocabulary(train[name]) for name in CATEGORIES]
        self.merchants = _vocabulary(train["merchant_id"], MERCHANTS + 1)
        self.edges = np.quantile(train["amount"].to_numpy(), np.linspace(0, 1, BUCKETS + 1)[1:-1]).astype(np.float32)

    def __call__(self, raw: Tensors) -> Tensors:
        """Features ``[batch, ...]`` as the network takes them, and the principal components."""
        numeric = (numeric_columns(raw) - self.mean.astype(np.float32)) / self.std.astype(np.float32)
        codes = [table.lookup(raw[name]) for name, table in zip(CATEGORIES, self.tables, strict=True)]
        codes.append(tf.cast(tf.searchsorted(self.edges, raw["amount"][:, 0], side="right")[:, None], tf.int64))
        codes = tf.concat([code + column * VOCABULARY for column, code in enumerate(codes)], axis=1)
        merchants = self.merchants.lookup(tf.concat([raw["merchant_id"], raw["past_merchant"]], axis=1))
        return {
            "numeric": numeric, "pca": tf.matmul(numeric, self.components), "codes": codes, "past": past_steps(raw),
            "merchants": merchants,
        }  # fmt: skip

    def arrays(self, frame: pl.DataFrame) -> Arrays:
        """A whole split in memory, with its label ``[rows, 1]``."""
        features = {name: values.numpy() for name, values in self(_raw(frame, self.names)).items()}
        return features | {LABEL: frame[LABEL].to_numpy().astype(np.float32)[:, None]}


def _raw(frame: pl.DataFrame, names: np.ndarray) -> Tensors:
    """The columns as tensors ``[rows, n]``; past merchants get their names back."""
    floats = {name: frame[name].to_numpy().astype(np.float32) for name in (*AMOUNTS, *COUNTS, *RISKS)}
    words = {name: frame[name].fill_null("").to_numpy() for name in CATEGORIES}
    scalars = {
        **floats,
        **words,
        "event_time": frame["event_time"].to_numpy(),
        "merchant_id": frame["merchant_id"].to_numpy(),
    }
    past = {name: tf.constant(frame[name].to_numpy()) for name in PASTS[:2]}
    past["past_merchant"] = tf.constant(names[frame["past_merchant"].to_numpy()])
    return {name: tf.constant(values)[:, None] for name, values in scalars.items()} | past


def _vocabulary(column: pl.Series, size: int = VOCABULARY) -> tf.lookup.StaticHashTable:
    """The most frequent values by number; the rest share the number after the last."""
    top = column.drop_nulls().value_counts(sort=True).head(size - 1)[column.name].to_list()
    pairs = tf.lookup.KeyValueTensorInitializer(top, np.arange(len(top), dtype=np.int64))
    return tf.lookup.StaticHashTable(pairs, len(top))


class Validation(keras.callbacks.Callback):
    """Adds loss and metric on the validation split to an epoch's log, where early stopping looks for them."""

    def __init__(self, valid: Arrays, loss: Callable[[Any, Any], Any]):
        super().__init__()
        self._valid, self._loss = valid, loss

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Takes the epoch's log and fills it in."""
        logits, truth = predict(self.model, self._valid), self._valid[LABEL]
        logs |= {"valid_loss": float(tf.reduce_mean(self._loss(truth, logits))), **network.quality(truth, logits)}
        line = " ".join(f"{name}={value:.4f}" for name, value in logs.items())
        print(f"  epoch {epoch + 1} {line}", file=sys.stderr, flush=True)


def fit(settings: Mapping[str, Any], train: Arrays, valid: Arrays) -> tuple[keras.Model, int]:
    """Plain Keras: the model with its best weights, and the epochs that it took."""
    keras.utils.set_random_seed(settings["seed"])
    rows, batch = len(train[LABEL]), min(settings["batch_size"], len(train[LABEL]))
    steps = rows // batch
    epochs = min(settings["epochs"], -(-settings["max_steps"] // steps))
    specs = {name: tf.TensorSpec([None, *train[name].shape[1:]], train[name].dtype) for name in network.INPUTS}
    model, loss = network.build(settings, specs), network.loss(settings)
    rate = keras.optimizers.schedules.CosineDecay(settings["learning_rate"], steps * epochs, alpha=0.02)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=settings["weight_decay"])
    # Left to itself Keras compiles with XLA, and on two cores that took ten times as long.
    model.compile(optimizer, loss, jit_compile=False)
    # Whole batches only, as the pipeline has them, so that steps and schedule are the same.
    kept = np.random.default_rng(settings["seed"]).permutation(rows)[: steps * batch]
    x, y = {name: train[name][kept] for name in network.INPUTS}, train[LABEL][kept]
    best = keras.callbacks.EarlyStopping(
        network.MONITOR, mode="max", patience=settings["patience"], restore_best_weights=True
    )
    done = model.fit(x, y, batch, epochs, verbose=0, callbacks=[Validation(valid, loss), best])
    return model, len(done.epoch)


def predict(model: keras.Model, features: Mapping[str, np.ndarray]) -> np.ndarray:
    """Logits and anomalies, ``[rows, 2]``."""
    return model.predict({name: features[name] for name in network.INPUTS}, batch_size=PREDICT_BATCH, verbose=0)


def baseline(make: Callable[..., Any], features: Mapping[str, Arrays]) -> float:
    """PR-AUC on eval of a simple model over the same features."""
    tables = [
        np.concatenate([part[n].reshape(len(part[n]), -1).astype(np.float32) for n in network.INPUTS], axis=1)
        for part in features.values()
    ]
    fitted = make(tables[0], features["train"][LABEL][:, 0], tables[1], features["valid"][LABEL][:, 0])
    return float(average_precision_score(features["eval"][LABEL][:, 0], fitted.predict_proba(tables[2])[:, 1]))


def _logistic(x: np.ndarray, y: np.ndarray, _x: np.ndarray, _y: np.ndarray) -> Any:
    iterations = 30 if x.size > WIDE else 200
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=iterations)).fit(x, y)


def _lightgbm(x: np.ndarray, y: np.ndarray, valid_x: np.ndarray, valid_y: np.ndarray) -> Any:
    model = lightgbm.LGBMClassifier(n_estimators=400, learning_rate=0.05, num_leaves=31, min_child_samples=40,
                                    subsample=0.8, subsample_freq=1, colsample_bytree=0.7, random_state=1, n_jobs=1,
                                    verbose=-1)  # fmt: skip
    stop = lightgbm.early_stopping(30, verbose=False)
    return model.fit(x, y, eval_X=valid_x, eval_y=valid_y, eval_metric="average_precision", callbacks=[stop])


BASELINES = {"logistic regression": _logistic, "LightGBM": _lightgbm}


def evaluate(
    model: keras.Model, point: Mapping[str, float], settings: Mapping[str, Any], frame: pl.DataFrame, features: Arrays
) -> dict[str, dict[str, float]]:
    """Metrics of the served answers, over the whole eval split and by slice."""
    logits = tf.constant(predict(model, features))
    answers = {name: value.numpy() for name, value in network.answers(logits, point, settings).items()}
    rows = {"overall": np.ones(frame.height, bool)}
    for name in ("channel", "category"):
        column = frame[name].fill_null("")
        rows |= {f"{name} {value}": (column == value).to_numpy() for value in column.unique().sort()}
    truth = features[LABEL][:, 0]
    return {n: _metrics(truth[r], answers["score"][r], answers["decision"][r], settings) for n, r in rows.items()}


def _metrics(truth: np.ndarray, score: np.ndarray, stop: np.ndarray, settings: Mapping[str, Any]) -> dict[str, float]:
    hit, missed, alarm = ((truth * stop).sum(), (truth * (1 - stop)).sum(), ((1 - truth) * stop).sum())
    both = 0 < truth.sum() < len(truth)
    found = {
        "rows": len(truth),
        "pr_auc": average_precision_score(truth, score) if both else math.nan,
        "roc_auc": roc_auc_score(truth, score) if both else math.nan,
        "calibration": score.sum() / truth.sum() if both else math.nan,
        "precision": hit / max(hit + alarm, 1),
        "recall": hit / max(hit + missed, 1),
        "cost": (missed * settings["miss_cost"] + alarm * settings["review_cost"]) / len(truth),
    }
    return {name: float(value) for name, value in found.items()}


def export(
    path: Path, model: keras.Model, preparation: Preparation, point: Mapping[str, float], settings: Mapping[str, Any]
) -> None:
    """The SavedModel with the pipeline's three signatures: serialized examples, raw tensors, dense tensors."""
    shutil.rmtree(path, ignore_errors=True)
    spec, archive = _parsing(), keras.export.ExportArchive()
    archive.track(model)
    archive.track(preparation)

    def dense(inputs: Tensors) -> Tensors:
        return network.answers(model({n: inputs[n] for n in network.INPUTS}, training=False), point, settings)

    def from_raw(inputs: Tensors) -> Tensors:
        return dense(preparation(inputs))

    def from_examples(examples: tf.Tensor) -> Tensors:
        return from_raw(tf.io.parse_example(examples, spec))

    raw = {name: tf.TensorSpec([None, *one.shape], one.dtype, name=name) for name, one in spec.items()}
    inputs = {x.name: tf.TensorSpec(x.shape, x.dtype, name=x.name) for x in model.inputs}
    archive.add_endpoint("serving_default", from_examples, [tf.TensorSpec([None], tf.string, name="examples")])
    archive.add_endpoint("raw", from_raw, [raw])
    archive.add_endpoint("dense", dense, [inputs])
    archive.write_out(str(path), verbose=False)
    (path / "assets.extra").mkdir()
    (path / "assets.extra" / "model.json").write_text(json.dumps({"operating_point": point, "settings": settings}))


def _parsing() -> dict[str, tf.io.FixedLenFeature]:
    """How a serialized example is parsed: all raw features but the label."""
    kinds = dict.fromkeys((*IDS, *CATEGORIES, "past_merchant"), tf.string) | {"event_time": tf.int64}
    return {
        name: tf.io.FixedLenFeature(
            [PAST if name in PASTS else 1], kinds.get(name, tf.float32), [""] if name in CATEGORIES else None
        )
        for name in (*SCALARS, *PASTS)
        if name != LABEL
    }


def serialized(frame: pl.DataFrame, merchants: list[str]) -> np.ndarray:
    """Rows as serialized examples, ``[rows]``; past merchants get their names back."""
    rows = []
    for row in frame.iter_rows(named=True):
        past = [merchants[code] if code >= 0 else "" for code in row["past_merchant"]]
        features = {
            name: _feature(spec.dtype, row | {"past_merchant": past}, name) for name, spec in _parsing().items()
        }
        rows.append(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    return np.array(rows, dtype=object)


def _feature(kind: tf.DType, row: Mapping[str, Any], name: str) -> tf.train.Feature:
    values = [value for value in (row[name] if name in PASTS else [row[name]]) if value is not None]
    if kind == tf.string:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode() for value in values]))
    if kind == tf.int64:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def lite(path: Path, rows: Arrays, settings: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Writes the four TensorFlow Lite variants and the smallest of those that keep the metric as ``model.tflite``.

    Raises:
        ValueError: if float32 answers otherwise than the SavedModel, or no variant keeps the metric.
    """
    inputs, truth = {name: rows[name] for name in network.INPUTS}, rows[LABEL]
    saved = tf.saved_model.load(str(path))
    expected = saved.signatures["dense"](**{n: tf.constant(v) for n, v in inputs.items()})[network.SCORE].numpy()
    exact, found, contents = network.quality(truth, expected[:, None])["pr_auc"], {}, {}
    for variant in VARIANTS:
        contents[variant] = convert(path, variant, inputs)
        answers, latency = ask(contents[variant], inputs)
        found[variant] = {
            "bytes": len(contents[variant]),
            "latency_us": latency,
            "difference": float(np.abs(answers - expected).max()),
            "metric_loss": exact - network.quality(truth, answers[:, None])["pr_auc"],
        }
    if not found["float32"]["difference"] <= settings["lite_tolerance"]:
        raise ValueError(f"float32 TFLite differs from the SavedModel by {found['float32']['difference']:.2g}.")
    passed = [name for name in VARIANTS if found[name]["metric_loss"] <= settings["lite_metric_loss"]]
    if not passed:
        raise ValueError("no TFLite variant keeps the metric.")
    (path / "model.tflite").write_bytes(contents[min(passed, key=lambda name: found[name]["bytes"])])
    return found


def convert(path: Path, variant: str, inputs: Mapping[str, np.ndarray]) -> bytes:
    """The ``dense`` signature as a ``.tflite``."""
    converter = tf.lite.TFLiteConverter.from_saved_model(str(path), signature_keys=["dense"])
    if variant != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if variant == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if variant == "int8":
        rows = min(REPRESENTATIVE, len(next(iter(inputs.values()))))
        one = [{name: values[row : row + 1] for name, values in inputs.items()} for row in range(rows)]
        converter.representative_dataset = lambda: iter(one)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter.convert()


def ask(content: bytes, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, float]:
    """Scores of all rows, and the median latency of one row in microseconds."""
    runner = Interpreter(model_content=content, num_threads=1).get_signature_runner("dense")
    answers, one, times = runner(**inputs)[network.SCORE], {n: values[:1] for n, values in inputs.items()}, []
    for _ in range(TIMED):
        started = time.perf_counter()
        runner(**one)
        times.append(time.perf_counter() - started)
    return answers.reshape(len(answers)), float(np.median(times[1:]) * 1e6)


def check_session(path: Path, examples: np.ndarray, features: Arrays) -> None:
    """Asks every signature, loaded as TensorFlow Serving loads them, for what the eager loader answers.

    Raises:
        ValueError: if an answer differs.
    """
    raw = {name: value.numpy() for name, value in tf.io.parse_example(examples, _parsing()).items()}
    dense = {name: features[name][: len(examples)] for name in network.INPUTS}
    asked = {"serving_default": {"examples": examples}, "raw": raw, "dense": dense}
    eager = tf.saved_model.load(str(path)).signatures
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, [tf.saved_model.SERVING], str(path)).signature_def
        answers = {name: _session_answers(session, loaded[name], values) for name, values in asked.items()}
    for name, values in asked.items():
        expected = eager[name](**{n: tf.constant(v) for n, v in values.items()})
        for output, value in expected.items():
            if not np.allclose(value.numpy(), answers[name][output], atol=TOLERANCE):
                raise ValueError(f"{name}/{output} differs when loaded as the server does.")


def _session_answers(session: Any, signature: Any, values: Mapping[str, np.ndarray]) -> Arrays:
    feeds = {tensor.name: values[name] for name, tensor in signature.inputs.items()}
    return session.run({name: tensor.name for name, tensor in signature.outputs.items()}, feeds)


def push(model: Path, base: Path) -> Path:
    """Copies the model into the next version folder, which appears whole or not at all."""
    base.mkdir(parents=True, exist_ok=True)
    version = base / str(1 + max((int(one.name) for one in base.iterdir() if one.name.isdigit()), default=0))
    shutil.rmtree(base / ".incoming", ignore_errors=True)
    shutil.copytree(model, base / ".incoming")
    return (base / ".incoming").rename(version)


def _age() -> float:
    """Seconds since this process began, its imports included."""
    began = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began


def _peak_mb() -> float:
    """Largest resident memory of this process, in MiB."""
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
