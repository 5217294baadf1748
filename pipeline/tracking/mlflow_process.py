"""MLflow itself: one run written, or all read. Run as a module, it records the one run that it reads from its input."""

import json
import math
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from pipeline.metadata import store
from pipeline.tracking import recording

NICE = 10
TEXT = 5000  # characters of a value; MLflow takes 6,000
BATCH = 100  # parameters or tags of one request, as MLflow has it
UNANSWERED = re.compile(r"^API request to .* failed with exception (\w+)")
NAME = re.compile(r"[^\w\-. /:]")


def main() -> None:
    """Get ready, wait for a record on standard input, and answer with its id or with one sentence of error."""
    os.nice(NICE)
    address, artifacts = os.environ["MLFLOW_TRACKING_URI"], sys.argv[1]
    answer, record = {}, RecordReader()
    try:
        with redirect_stdout(sys.stderr):  # with a server, MLflow prints the links of a run
            tracker = opened(address, record)
            if text := record.text():
                answer = {"id": write(tracker, json.loads(text), artifacts)}
    except Exception as error:
        record.text()
        answer = {"error": _sentence(error).replace(address, recording.shown(address))}
    print(json.dumps(answer), flush=True)


class RecordReader:
    """The record on standard input, read while MLflow is imported.

    An input that ends empty has nothing to record: the run was killed. Then the process ends at once, but not while it
    holds ``busy``, as half-made tables would break the store for every later run.
    """

    def __init__(self) -> None:
        self.busy = threading.Lock()
        self._text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def text(self) -> str:
        """Wait for the end of the input; return what it held."""
        self._reader.join()
        return self._text

    def _read(self) -> None:
        self._text = sys.stdin.read()
        if not self._text:
            with self.busy:
                os._exit(0)


def opened(address: str, record: RecordReader | None = None) -> Any:
    """An MLflow client whose store is there and can be written.

    Args:
        address: Of the store.
        record: The record that waits for it, if one does; the process does not end while the store's tables are made.

    Raises:
        ImportError, OSError, ValueError: if not.
    """
    database = address.removeprefix("sqlite:///") if address.startswith("sqlite:") else ""
    if not database:
        return _client_class()(tracking_uri=address)
    _check(address)
    made = _client_class()
    # Two processes that make the tables at once break each other's.
    with record.busy if record else nullcontext(), store.locked(Path(database)):
        client = made(tracking_uri=address)
        client.search_experiments(max_results=1)
    return client


def write(client: Any, record: Mapping[str, Any], artifacts: str) -> str:
    """Records a run; an earlier record of the same run (it went on after a stop) is deleted once the new one stands.

    Args:
        record: As :func:`pipeline.tracking.recording.record` makes it.
        artifacts: Folder for files of an experiment in a local store; a server has its own.

    Returns:
        MLflow's id of it.
    """
    from mlflow.entities import Dataset, DatasetInput, Metric, Param, RunTag

    experiment = _experiment(client, record["experiment"], artifacts)
    earlier = _named(client, experiment, record["run"])
    made = client.create_run(experiment, start_time=record["started"], run_name=record["run"]).info.run_id
    for part in _batches(record["tags"].items()):
        client.log_batch(made, tags=[RunTag(key, str(value)[:TEXT]) for key, value in part])
    for part in _batches(record["params"].items()):
        client.log_batch(made, params=[Param(key, str(value)[:TEXT]) for key, value in part])
    for part in _batches(_points(record)):
        client.log_batch(made, metrics=[Metric(*point) for point in part])
    data = record["data"]
    source = Dataset(data["name"], data["digest"], "local", json.dumps({"uri": data["source"]}))
    client.log_inputs(made, [DatasetInput(source)])
    client.set_terminated(made, record["status"], record["ended"])
    for one in earlier:
        client.delete_run(one)
    return made


def recorded(address: str, case: str) -> list[dict[str, Any]]:
    """All records of a case, the oldest first: ``id``, ``run``, ``status``, ``params``, ``metrics``, ``tags``, ``data``.

    Raises:
        OSError: if there is no such store.
    """
    file = Path(address.removeprefix("sqlite:///"))
    if address.startswith("sqlite:///") and not file.is_file():
        raise OSError(f"There is no tracking store {file}; a finished `showcase run` makes it.")
    client = opened(address)
    experiment = client.get_experiment_by_name(case)
    if experiment is None:
        return []
    found: list[Any] = []
    token: str | None = None
    while token is not None or not found:
        page = client.search_runs(
            [experiment.experiment_id], order_by=["attributes.start_time ASC"], page_token=token or None
        )
        found += page
        token = page.token
        if not token:
            break
    return [_plain(one) for one in found if recording.RUN in one.data.tags]


def curve(address: str, run: str, name: str) -> list[tuple[int, float]]:
    """A metric of one record by epoch."""
    return [(one.step, one.value) for one in opened(address).get_metric_history(run, f"epoch/{name}")]


def _client_class() -> Any:
    """MLflow's client; the import takes seconds."""
    os.environ.update(recording.MANNERS)  # MLflow reads them as it is imported and as it calls
    from mlflow.tracking import MlflowClient

    return MlflowClient


def _check(address: str) -> None:
    """Opens a SQLite store for writing: MLflow itself would try a broken one again for a minute and more."""
    from sqlalchemy import create_engine, exc, text

    engine = create_engine(address)
    try:
        with engine.connect() as connection:
            connection.execute(text("BEGIN IMMEDIATE"))
            connection.execute(text("SELECT count(*) FROM sqlite_master"))
            connection.execute(text("PRAGMA user_version = 0"))
            connection.rollback()
    except exc.DatabaseError as error:
        raise OSError(str(error.orig)) from None
    finally:
        engine.dispose()


def _experiment(client: Any, name: str, artifacts: str) -> str:
    found = client.get_experiment_by_name(name)
    if found:
        return found.experiment_id
    local = client.tracking_uri.startswith("sqlite:")
    return client.create_experiment(name, artifact_location=Path(artifacts, name).as_uri() if local else None)


def _named(client: Any, experiment: str, run: str) -> list[str]:
    """Ids of the records of a run."""
    return [one.info.run_id for one in client.search_runs([experiment], f"attributes.run_name = '{run}'")]


def _points(record: Mapping[str, Any]) -> Iterator[tuple[str, float, int, int]]:
    """Name, value, time and step of every metric; an epoch's time follows from the seconds before it."""
    for name, value in record["metrics"].items():
        if _finite(value):
            yield NAME.sub("_", name), float(value), record["ended"], 0
    time = float(record["started"])
    for epoch, values in enumerate(record["curves"], 1):
        time += 1000 * values.get("seconds", 0.0)
        for name, value in values.items():
            if _finite(value):
                yield NAME.sub("_", f"epoch/{name}"), float(value), int(time), epoch


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _batches(items: Iterable[Any]) -> Iterator[list[Any]]:
    waiting = list(items)
    for start in range(0, len(waiting), BATCH):
        yield waiting[start : start + BATCH]


def _plain(one: Any) -> dict[str, Any]:
    inputs = one.inputs.dataset_inputs
    return {
        "id": one.info.run_id,
        "run": one.data.tags[recording.RUN],
        "status": one.info.status,
        "started": one.info.start_time,
        "ended": one.info.end_time,
        "params": dict(one.data.params),
        "metrics": dict(one.data.metrics),
        "tags": dict(one.data.tags),
        "data": {"name": inputs[0].dataset.name, "digest": inputs[0].dataset.digest} if inputs else {},
    }


def _sentence(error: Exception) -> str:
    """What an error says in its first line, in short."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and (failed := UNANSWERED.search(lines[0])):
        return f"the server does not answer ({failed[1]})"
    return lines[0][:200] if lines else type(error).__name__


if __name__ == "__main__":
    main()
