"""Random folders of purchases as people and programs write them, and what reading them has to give.

A case is drawn from a random stream: files in many formats, encodings and layouts, some with a fault. For every row that a
file holds, the case knows the purchase that has to be read; a fault has to be refused.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

from benchmarks.odd_files import PARQUET_FAULTS, REQUIRED, TEXT_FAULTS, Row, format_parquet_file, format_text_file
from models.fraud.identity import normalise_id

START = datetime(2026, 1, 5)
DEFAULTS = {"category": "none", "channel": "none", "device": "none", "distance_km": 0.0, "label_time": None}
CHARACTERS = "abcXYZ0123456789-_.,;|\t\"'/\\= \n€éß漢🙂"
COMPANIONS = ("notes.txt", "_SUCCESS", ".part-0.csv.crc", ".ipynb_checkpoints/a.csv", "sheet.xlsx", "part-00007")
DELAY = timedelta(days=7)


@dataclass
class OddCase:
    """A folder of spans and what reading it has to give.

    Attributes:
        spans: Folder of each span by its number.
        files: Number of files in them.
        rows: Expected purchases of each file that can be read, in order.
        faults: What has to be refused; empty if everything has to be read.
        damaged: Whether bytes of a file were changed at random, so that anything but a crash is right.
    """

    spans: dict[int, Path]
    files: int = 0
    rows: list[list[Row]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    damaged: bool = False

    def find_repetitions(self) -> list[str]:
        """Return faults that follow from rows of several files: shared ids, and files that are all in another."""
        by_id: dict[str, Row] = {}
        faults = [
            f"the id {row['transaction_id']!r} has two rows"
            for rows in self.rows
            for row in rows
            if by_id.setdefault(row["transaction_id"], row) != row
        ]
        sets = [{row["transaction_id"] for row in rows} for rows in self.rows]
        faults += [
            f"file {number} is in file {other}"
            for number, ids in enumerate(sets)
            for other, others in enumerate(sets)
            if number != other and ids and ids <= others
        ]
        return faults


def draw_case(random: Random, folder: Path) -> OddCase:
    """Write a random case to a folder that is empty or does not exist."""
    count = random.randint(1, 3)
    spans = {number: folder / f"span-{number:03d}" for number in range(count)} if count > 1 else {0: folder}
    case = OddCase(spans)
    for span in spans.values():
        before = len(case.rows)
        for number in range(random.randint(1, 3)):
            _draw_file(random, case, span, f"file{number}")
        if not any(case.rows[before:]) and not case.faults:
            case.faults.append(f"{span.name} has no purchases")
        if random.random() < 0.3:
            _write(case, span / random.choice(COMPANIONS), b"x")
    case.faults += case.find_repetitions()
    if random.random() < 0.1:
        _damage(random, case)
    return case


def _draw_file(random: Random, case: OddCase, span: Path, stem: str) -> None:
    rows = [_draw_row(random, f"{span.name}-{stem}-{number}") for number in range(random.choice((0, 2, 4, 6, 9)))]
    earlier = [row for other in case.rows for row in other]
    if rows and earlier and random.random() < 0.08:
        rows.insert(
            random.randint(0, len(rows)), random.choice(earlier) | ({"amount": 0.25} if random.random() < 0.2 else {})
        )
    optional = [name for name in DEFAULTS if random.random() < 0.5]
    names = [*REQUIRED, *optional]
    random.shuffle(names)
    rows = [{**row, **{name: value for name, value in DEFAULTS.items() if name not in optional}} for row in rows]
    is_text = random.random() < 0.6
    fault = random.choice(TEXT_FAULTS if is_text else PARQUET_FAULTS) if rows and random.random() < 0.06 else None
    suffix, data = (format_text_file if is_text else format_parquet_file)(random, names, rows, fault)
    _write(case, span / f"{stem}{suffix}", data)
    if fault:
        case.faults.append(f"{fault} in {span.name}/{stem}")
    else:
        case.rows.append([_complete(row) for row in rows])


def _complete(row: Row) -> Row:
    """Return the purchase that has to be read."""
    assumed = row["label_time"] or row["event_time"] + DELAY
    return {**row, "label_time": None if row["is_fraud"] is None else assumed}


def _draw_row(random: Random, name: str) -> Row:
    time = START + timedelta(
        days=random.randint(0, 9), seconds=random.randint(0, 86_399), milliseconds=random.choice((0, 250))
    )
    return {
        "transaction_id": name if random.random() < 0.7 else name + _draw_id(random),
        "event_time": time,
        "customer_id": _draw_id(random),
        "merchant_id": _draw_id(random),
        "amount": random.randint(0, 10 ** random.randint(1, 8)) / 100,
        "is_fraud": random.choice((0, 0, 1, None)),
        "label_time": random.choice((None, time + timedelta(days=random.randint(0, 9)))),
        "category": random.choice((None, "fuel", "food, drinks", "5411", "Café")),
        "channel": random.choice(("chip", "online")),
        "device": random.choice((None, "phone")),
        "distance_km": random.choice((0.0, 12.5, 25_000.0)),
    }


def _draw_id(random: Random) -> str:
    """Draw an id that is written as it is read."""
    while True:
        text = "".join(random.choice(CHARACTERS) for _ in range(random.randint(1, 12)))
        text = text if random.random() < 0.5 else str(random.randint(0, 4 * 10**15))
        try:
            if normalise_id(text) == text:
                return text
        except ValueError:
            continue


def _damage(random: Random, case: OddCase) -> None:
    """Cut a file off, or change one of its bytes."""
    paths = [path for span in case.spans.values() for path in sorted(span.rglob("file*")) if path.stat().st_size]
    if paths:
        path = random.choice(paths)
        data = bytearray(path.read_bytes())
        position = random.randrange(len(data))
        if random.random() < 0.5:
            del data[position:]
        else:
            data[position] = random.randrange(256)
        path.write_bytes(bytes(data))
        case.damaged = True


def _write(case: OddCase, path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    case.files += 1
