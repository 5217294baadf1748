"""Account of the purchases of a window: reads every file once and counts what is used, converted, skipped and refused."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from models import spans as span_folders
from models.data.data_report import DataReport
from models.fraud.raw.columns import OPTIONAL, escape
from models.fraud.raw.duplicates import RowIndex
from models.fraud.raw.file_reader import FileContent, ReadOptions, read_file
from models.fraud.raw.outliers import describe_outliers, find_outliers
from models.fraud.raw.period import find_period
from models.fraud.raw.split_counts import count_labels
from models.fraud.raw.table_files import TableFile, find_double_formats, list_tables

COPIES, OUTLIERS = "repeated exactly", "outside the period"


@dataclass
class Account:
    """Counts over the files of a window.

    Attributes:
        options: How files are read.
        rows: Number of rows by file; of a file without a fault, or as far as it can be read.
        files: How each of these files is read.
        labels: Number of purchases of the period by day, label and the day when the label became known, without copies.
        days: Days on which each file has purchases.
        period: First and last day that purchases cover, in days since 1970; None if no file could be read.
        copies: Number of rows that repeat an earlier row.
        outliers: Number of rows outside the period that are dropped.
        faulty: Files with a fault.
        refused: Messages of the faults.
    """

    options: ReadOptions
    rows: dict[Path, int] = field(default_factory=dict)
    files: dict[Path, TableFile] = field(default_factory=dict)
    labels: Counter[tuple[int, int, int]] = field(default_factory=Counter)
    days: dict[Path, set[int]] = field(default_factory=dict)
    period: tuple[int, int] | None = None
    copies: int = 0
    outliers: int = 0
    skipped: dict[str, list[str]] = field(default_factory=dict)
    unused: set[str] = field(default_factory=set)
    absent: Counter[str] = field(default_factory=Counter)
    converted: Counter[str] = field(default_factory=Counter)
    faulty: set[Path] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)

    def to_report(self, settings: Mapping[str, Any], **fields: Any) -> DataReport:
        """Return the report, with the settings that the data determines and further fields of a :class:`DataReport`."""
        files = [path for path in self.rows if path not in self.faulty]
        period = tuple(str(date(1970, 1, 1) + timedelta(day)) for day in self.period or ())
        dropped = {COPIES: self.copies, OUTLIERS: self.outliers}
        return DataReport(
            settings=settings,
            unit="purchases",
            files=len(files),
            rows=sum(self.rows[path] for path in files) - sum(dropped.values()),
            period=period,
            skipped=self.skipped,
            dropped={reason: count for reason, count in dropped.items() if count},
            unused=sorted(self.unused),
            defaults={name: _describe_default(name) for name in OPTIONAL if self.absent[name]},
            absent={name: self.absent[name] for name in OPTIONAL if self.absent[name]},
            converted=dict(self.converted),
            refused=tuple(self.refused),
            files_refused=len(self.faulty),
            rows_refused=sum(self.rows[path] for path in self.faulty),
            **fields,
        )

    def add(self, file: TableFile, content: FileContent) -> None:
        """Count a file with rows or faults."""
        self.rows[file.path], self.files[file.path] = content.rows, file
        self.unused |= set(content.unused)
        self.absent.update(content.absent)
        self.converted.update(content.converted)
        if content.faults:
            self.refuse(file.path, *content.faults)
        labels = count_labels(content.table)
        self.labels.update(labels)
        self.days[file.path] = {day for day, _, _ in labels}

    def skip(self, reason: str, name: str) -> None:
        """Count a file that is not used."""
        self.skipped.setdefault(reason, []).append(name)

    def refuse(self, path: Path, *messages: str) -> None:
        """Count a file with faults; their messages name it."""
        self.faulty.add(path)
        self.refused.extend(messages)


def _describe_default(name: str) -> str:
    return "label_delay_days after the purchase" if name == "label_time" else repr(OPTIONAL[name][1])


def account_for(spans: Mapping[int, Path], options: ReadOptions, drop_outliers: bool = False) -> Account:
    """Read all files of the spans and account for them; faults are collected and do not raise."""
    account, index = Account(options), RowIndex()
    for folder in spans.values():
        _account_for_span(folder, account, index)
    _find_repetitions(account, index)
    if account.labels:
        _settle_period(account, drop_outliers)
    return account


def _account_for_span(folder: Path, account: Account, index: RowIndex) -> None:
    root = folder.parent if span_folders.NAME.fullmatch(folder.name) else folder
    listing = list_tables(folder)
    for reason, paths in listing.skipped.items():
        for path in paths:
            account.skip(reason, os.path.relpath(path, root))
    doubles = find_double_formats(listing.files)
    for file in listing.files:
        content = read_file(file, account.options)
        if not content.rows and not content.faults:
            account.skip("without rows", os.path.relpath(file.path, root))
            continue
        account.add(file, content)
        if file.path in doubles:
            account.refuse(file.path, doubles[file.path])
        elif content.rows and not content.faults:
            index.add(file.path, content.table)
    if not any(file.path in account.rows for file in listing.files):
        account.refused.append(_describe_empty(folder, listing.skipped))


def _describe_empty(folder: Path, skipped: Mapping[str, list[Path]]) -> str:
    names = ", ".join(f"{len(paths)} {reason}" for reason, paths in skipped.items())
    return (
        f"{folder} has no purchases in .csv, .tsv or .parquet files{f' ({names})' if names else ''}; "
        "write the day's purchases to it or leave the day out with --spans."
    )


def _settle_period(account: Account, drop_outliers: bool) -> None:
    """Find the days that purchases cover, and drop or refuse the rows outside them."""
    rows: Counter[int] = Counter()
    for (day, _, _), count in account.labels.items():
        rows[day] += count
    first, last = account.period = find_period(rows)
    paths = [path for path, days in account.days.items() if days and (min(days) < first or max(days) > last)]
    if not paths:
        return
    account.labels = Counter({key: count for key, count in account.labels.items() if first <= key[0] <= last})
    outliers = find_outliers([account.files[path] for path in paths], account.options, (first, last))
    if drop_outliers:
        # A copy of an outlier counts as a copy.
        account.outliers = len(np.unique(outliers.hashes))
    else:
        account.faulty |= set(paths)
        account.refused.append(describe_outliers(outliers, (first, last)))


def _find_repetitions(account: Account, index: RowIndex) -> None:
    if shared := index.find_shared_id():
        (first, row), (second, other) = shared.first, shared.second
        table = read_file(account.files[second], account.options).table
        rest = f" ({shared.count - 1:,} more such rows)" if shared.count > 1 else ""
        account.refuse(
            second,
            f"{second}, {account.files[second].name_row(other)}, has the transaction_id "
            f"'{escape(table['transaction_id'][other].as_py())}' of another purchase: {first}, "
            f"{account.files[first].name_row(row)}{rest}; keep one of the rows or correct the ids.",
        )
    copied = index.find_copied_files()
    for copy, original in copied:
        account.refuse(copy, f"All purchases of {copy} are also in {original}; remove one of the files.")
    whole = {path for path, _ in copied}
    for path, rows in index.find_copies().items():
        account.copies += 0 if path in whole else len(rows)
        table = read_file(account.files[path], account.options).table
        account.labels -= Counter(count_labels(table.take(pa.array(rows))))
