"""Write runs to MLflow and read them back.

Run as a module, it records one run, whose record it reads from standard input.
"""

import json
import math
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from pipeline.metadata import local_file, store
from pipeline.tracking import recording

NICE = 10
TEXT = 5000  # maximum characters of a value; MLflow's limit is 6,000
BATCH = 100  # parameters or tags in one request: MLflow's limit
UNANSWERED = re.compile(r"^API request to .* failed with exception (\w+)")
NAME = re.compile(r"[^\w\-. /:]")


def main() -> None:
    """Open the store, wait for a record on standard input, and print its id or a one-sentence error as JSON."""
    os.nice(NICE)
    address, artifacts = os.environ["MLFLOW_TRACKING_URI"], sys.argv[1]
    answer, record = {}, RecordReader()
    try:
        with redirect_stdout(sys.stderr):  # with a server, MLflow prints links to the run
            tracker = open_client(address, record)
            if text := record.text():
                answer = {"id": write_record(tracker, json.loads(text), artifacts)}
    except Exception as error:
        record.text()
        answer = {"error": _sentence(error).replace(address, recording.hide_credentials(address))}
    print(json.dumps(answer), flush=True)


class RecordReader:
    """Reads the record from standard input in a thread while MLflow is imported.

    An empty input means that the run was killed and there is nothing to record. Then the process exits at once, but not
    while it holds ``busy``, because half-created tables would break the store for every later run.
    """

    def __init__(self) -> None:
        self.busy = threading.Lock()
        self._text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def text(self) -> str:
        """Wait for the end of the input; return its content."""
        self._reader.join()
        return self._text

    def _read(self) -> None:
        self._text = sys.stdin.read()
        if not self._text:
            with self.busy:
                os._exit(0)


def open_client(address: str, record: RecordReader | None = None) -> Any:
    """Return an MLflow client after checking that its store can be written; create a SQLite store if there is none.

    Args:
        address: Address of the store.
        record: Reader of the record to write, if any; the process does not exit while the store's tables are created.

    Raises:
        ImportError, OSError, ValueError: if MLflow cannot be imported or the store cannot be opened.
    """
    database = address.removeprefix("sqlite:///") if address.startswith("sqlite:") else ""
    if not database:
        return _client_class()(tracking_uri=address)
    _check(address)
    client_class = _client_class()
    # Under a lock, because two processes that create the tables at the same time corrupt the store.
    with record.busy if record else nullcontext(), store.write_lock(Path(database)):
        client = client_class(tracking_uri=address)
        client.search_experiments(max_results=1)
    return client


def write_record(client: Any, record: Mapping[str, Any], artifacts: str) -> str:
    """Record a run; earlier records of the same run, which was resumed since, are deleted once the new one is complete.

    Args:
        record: A record made by :func:`pipeline.tracking.recording.build_record`.
        artifacts: Folder for an experiment's files in a local store; a server uses its own.

    Returns:
        MLflow's id of the record.
    """
    from mlflow.entities import Dataset, DatasetInput, Metric, Param, RunTag

    experiment = _experiment(client, record["experiment"], artifacts)
    earlier_records = _find_records(client, experiment, record["run"])
    record_id = client.create_run(experiment, start_time=record["started"], run_name=record["run"]).info.run_id
    for batch in _batches(record["tags"].items()):
        client.log_batch(record_id, tags=[RunTag(key, str(value)[:TEXT]) for key, value in batch])
    for batch in _batches(record["params"].items()):
        client.log_batch(record_id, params=[Param(key, str(value)[:TEXT]) for key, value in batch])
    for batch in _batches(_points(record)):
        client.log_batch(record_id, metrics=[Metric(*point) for point in batch])
    data = record["data"]
    source = Dataset(data["name"], data["digest"], "local", json.dumps({"uri": data["source"]}))
    client.log_inputs(record_id, [DatasetInput(source)])
    client.set_terminated(record_id, record["status"], record["ended"])
    for earlier_id in earlier_records:
        client.delete_run(earlier_id)
    return record_id


def read_records(address: str, case: str) -> list[dict[str, Any]]:
    """Return all records of a case, the oldest first.

    Returns:
        Dicts with ``id``, ``run``, ``status``, ``started``, ``ended``, ``params``, ``metrics``, ``tags`` and ``data``.

    Raises:
        OSError: if there is no such store, or its server does not answer.
    """
    with open_reader(address) as client:
        return _read_runs(client, case)


def read_curve(address: str, run: str, name: str) -> list[tuple[int, float]]:
    """Return a metric of one record by epoch."""
    with open_reader(address) as client:
        return [(point.step, point.value) for point in client.get_metric_history(run, f"epoch/{name}")]


@contextmanager
def open_reader(address: str) -> Iterator[Any]:
    """Yield an MLflow client for reading; a SQLite store that cannot be written to is read from a temporary copy.

    Raises:
        OSError: if there is no such store, or it cannot be read.
    """
    file = Path(address.removeprefix("sqlite:///"))
    if address.startswith("sqlite:///") and not file.is_file():
        raise OSError(f"There is no tracking store {file}; the first finished `showcase run` creates it.")
    with ExitStack() as opened:
        try:
            if address.startswith("sqlite:///") and not local_file.is_writable(file):
                address = f"sqlite:///{opened.enter_context(local_file.copy_store(file))}"
            client = open_client(address)
            client.search_experiments(max_results=1)  # connects
        except Exception as error:
            where = recording.hide_credentials(address)
            reason = _sentence(error).replace(address, where).rstrip(".")
            raise OSError(f"The experiment tracker at {where} cannot be read: {reason}.") from None
        yield client


def _read_runs(client: Any, case: str) -> list[dict[str, Any]]:
    experiment = client.get_experiment_by_name(case)
    if experiment is None:
        return []
    mlflow_runs: list[Any] = []
    token: str | None = None
    while token is not None or not mlflow_runs:
        page = client.search_runs(
            [experiment.experiment_id], order_by=["attributes.start_time ASC"], page_token=token or None
        )
        mlflow_runs += page
        token = page.token
        if not token:
            break
    return [_to_plain(mlflow_run) for mlflow_run in mlflow_runs if recording.RUN_TAG in mlflow_run.data.tags]


def _client_class() -> Any:
    """Import and return MLflow's client class; the import takes seconds."""
    os.environ.update(recording.MLFLOW_ENVIRONMENT)  # MLflow reads them at import and at every call
    from mlflow.tracking import MlflowClient

    return MlflowClient


def _check(address: str) -> None:
    """Open a SQLite store for writing; raise an error at once, where MLflow would retry for more than a minute."""
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
    experiment = client.get_experiment_by_name(name)
    if experiment:
        return experiment.experiment_id
    local = client.tracking_uri.startswith("sqlite:")
    return client.create_experiment(name, artifact_location=Path(artifacts, name).as_uri() if local else None)


def _find_records(client: Any, experiment: str, run: str) -> list[str]:
    return [mlflow_run.info.run_id for mlflow_run in client.search_runs([experiment], f"attributes.run_name = '{run}'")]


def _points(record: Mapping[str, Any]) -> Iterator[tuple[str, float, int, int]]:
    """Yield name, value, time and step of every metric; an epoch's time is the start plus the seconds of all epochs so far."""
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
    pending = list(items)
    for start in range(0, len(pending), BATCH):
        yield pending[start : start + BATCH]


def _to_plain(mlflow_run: Any) -> dict[str, Any]:
    inputs = mlflow_run.inputs.dataset_inputs
    return {
        "id": mlflow_run.info.run_id,
        "run": mlflow_run.data.tags[recording.RUN_TAG],
        "status": mlflow_run.info.status,
        "started": mlflow_run.info.start_time,
        "ended": mlflow_run.info.end_time,
        "params": dict(mlflow_run.data.params),
        "metrics": dict(mlflow_run.data.metrics),
        "tags": dict(mlflow_run.data.tags),
        "data": {"name": inputs[0].dataset.name, "digest": inputs[0].dataset.digest} if inputs else {},
    }


def _sentence(error: Exception) -> str:
    """Return the first line of an error's message, shortened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and (no_answer := UNANSWERED.search(lines[0])):
        return f"the server does not answer ({no_answer[1]})"
    return lines[0][:200] if lines else type(error).__name__


if __name__ == "__main__":
    main()
