"""A plan: a request with data, settings and schema resolved before any stage runs."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from models import default_settings, spans
from models.data.data_report import DataReport
from models.errors import DataError
from models.use_case import UseCase
from pipeline import cache_key
from pipeline.refresh import RefreshBase
from pipeline.runtime import Runtime
from serving import bucket, bucket_folders

# Libraries whose versions decide what a run computes.
PACKAGES = ("tfx", "tensorflow", "keras", "keras-tuner", "apache-beam", "lightgbm", "ydf")


@dataclass(frozen=True)
class RunRequest:
    """A request to run a pipeline, as given on the command line.

    Attributes:
        case: The use case.
        data: Path or name of the data; None for the case's embedded data.
        first: First span; -1 for the earliest available.
        last: Last span; -1 for the latest available.
        changes: Changed settings by name, as text.
        schema: Path of a schema to use in place of the case's own.
        refresh: Whether to refine the served model on newer spans instead of training from scratch.
        tune: Whether the Tuner searches for the settings that ``changes`` does not set.
        decision: Id of the monitoring decision that triggered the request; empty for a manual run.
    """

    case: UseCase
    data: str | None = None
    first: int = -1
    last: int = -1
    changes: Mapping[str, str] | None = None
    schema: Path | None = None
    tune: bool = False
    refresh: bool = False
    decision: str = ""


@dataclass(frozen=True)
class Plan:
    """A resolved request: everything that is needed to build one run.

    Attributes:
        case: The use case.
        source: Folder of the raw spans.
        first: First span of the window.
        last: Last span of the window.
        settings: The case's settings by group, with all changes and the values derived from the data.
        schema: The curated schema as text, without comments.
        versions: Folder that a model server watches.
        data_version: Content digest of the window.
        space: The Tuner's search space by the name of a training setting; empty for a run without a Tuner.
        base: The served model to refine; None to train from scratch.
        decision: Id of the monitoring decision that triggered the run; it does not affect the result.
        report: Account of the data; its derived settings are part of ``settings``.
    """

    case: UseCase
    source: str
    first: int
    last: int
    settings: Mapping[str, Mapping[str, Any]]
    schema: str
    versions: str
    data_version: str
    space: Mapping[str, Any] = field(default_factory=dict)
    base: RefreshBase | None = None
    decision: str = ""
    report: DataReport | None = field(default=None, compare=False)

    def config(self, *groups: str) -> dict[str, Any]:
        """Return the configuration of a stage: only the settings of its groups, so that no other setting invalidates it."""
        settings = {name: value for group in groups for name, value in self.settings[group].items()}
        return {"case": self.case.name, "settings": settings}

    def fingerprint(self) -> str:
        """Hash everything that determines the result: data, settings, schema, code, libraries.

        The content of the data counts, not its place, and other paths in the home count relative to it, so that a home that
        was moved or copied reuses its runs.
        """
        names = ("data", "features", "model", "evaluation", "sentences")
        modules = [self.case.module(name) for name in names]
        parts = [
            self.case.name,
            self.first,
            self.last,
            self.settings,
            self.schema,
            self.data_version,
            self.space,
            self.base and asdict(self.base),
            self.case.watched_inputs,
            cache_key.digest("pipeline.graph", "models.training.entry_point", *modules),
            [version(name) for name in PACKAGES],
        ]
        home = json.dumps(f"{Path(self.versions).parent.parent}/")[1:-1]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).replace(home, "").encode()).hexdigest()[:16]


def make_plan(request: RunRequest, runtime: Runtime) -> Plan:
    """Find and check the data and resolve every setting before any stage starts.

    Raises:
        BucketError: if the home or the data is in a bucket that does not answer, or takes no objects.
        DataError: if the data does not meet the case's requirements.
        MetadataUnavailableError: if the metadata store's server does not answer.
        ValueError: for an unknown setting, or an invalid combination of settings.
    """
    settings = request.case.configure(request.changes or {})
    # Both raise before the data is prepared.
    runtime.metadata.exists()
    bucket.check(Path(runtime.root), write=True)
    base = RefreshBase.of(request.case, runtime) if request.refresh else None
    if base:
        chosen = {name: settings["training"][name] for name in request.changes or {} if name in settings["training"]}
        settings["training"] |= {**base.settings, **default_settings.REFRESH, **chosen}
    default_settings.check_settings(settings["training"])
    schema, space = _read_schema_of(request), search_space(request) if request.tune else {}
    data = request.case.load("data")
    source = _prepare_source(request, Path(runtime.root, "data"), settings["data"])
    window = spans.select_window(source, request.first, request.last)
    if base and (request.first, request.last) == (-1, -1):
        window = spans.select_window(source, *base.window(request.case.name, str(source), max(window)))
    report = _check(data, source, window, settings["data"])
    if report.refused:
        raise DataError(report.error())
    settings["data"] |= report.settings
    return Plan(
        case=request.case,
        source=str(source),
        first=min(window),
        last=max(window),
        settings=settings,
        schema=schema,
        versions=str(runtime.case(request.case.name).versions),
        data_version=spans.digest_spans(window.values()),
        space=space,
        base=base,
        decision=request.decision,
        report=report,
    )


def _read_schema_of(request: RunRequest) -> str:
    path = request.schema or request.case.schema_path
    if not path.is_file():
        raise DataError(f"There is no schema {path}; --schema takes a file written by `showcase schema`.")
    return read_schema(path)


def _prepare_source(request: RunRequest, cache: Path, settings: Mapping[str, Any]) -> Path:
    """Return the folder of the request's data; data of the case's own is generated or downloaded on first use."""
    if request.data is not None and not request.data.strip():
        raise DataError("--data is empty; name a folder, or leave the option out to use the data of the use case.")
    source: Path = request.case.load("data").prepare(_download(request.data), cache, settings)
    return source.resolve()


def read_schema(path: Path) -> str:
    """Read a schema as text in canonical form, so that comments and blank lines in the file do not change a cache key.

    Raises:
        DataError: if the file is not a schema; the message names the line.
    """
    # Imported here: commands that make no plan do not need it.
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    try:
        return text_format.MessageToString(text_format.Parse(path.read_text(), schema_pb2.Schema()))
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} is not a schema: {str(error).rstrip('.')}. Write a draft with `showcase schema`."
        ) from error


def search_space(request: RunRequest) -> dict[str, Any]:
    """Return the Tuner's search space: the case's own, without the settings that the request sets.

    Raises:
        ValueError: if nothing is left to search.
    """
    space = {name: kind for name, kind in request.case.space.items() if name not in (request.changes or {})}
    if not space:
        raise ValueError(
            f"There is nothing to tune: {request.case.name} has no search space, or --set fixes every setting in it."
        )
    return space


def check_data(request: RunRequest, cache: Path) -> DataReport:
    """Return the account of the request's data without planning a run; faults are in its ``refused``.

    Args:
        request: The request; its data, window and changed settings are used.
        cache: Folder of data that is generated or downloaded on first use.

    Raises:
        DataError: if the folder or a span of the window is missing.
        ValueError: for an unknown setting.
    """
    settings = request.case.configure(request.changes or {})["data"]
    source = _prepare_source(request, cache, settings)
    window = spans.select_window(source, request.first, request.last)
    return _check(request.case.load("data"), source, window, settings)


def _check(data: Any, source: Path, window: Mapping[int, Path], settings: Mapping[str, Any]) -> DataReport:
    """Return the case's account of the window, with the files of the source that lie outside its spans."""
    report: DataReport = data.check(window, settings)
    loose = [str(path.relative_to(source)) for path in spans.list_loose_files(source)]
    return replace(report, skipped={**report.skipped, **({"outside the spans": loose} if loose else {})})


def _download(data: str | None) -> str | None:
    """Return data in a bucket as the path of its working copy, downloaded; other data as it is."""
    if data is None or not bucket.is_uri(data):
        return data
    path = bucket.working_copy(data)
    bucket.check(path)
    bucket_folders.pull_listed(path)
    return str(path)
