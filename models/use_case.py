"""The one noun that says what to learn."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from models.retraining_policy import Policy

# The metrics that can also be estimated without labels.
Headline = Literal["pr_auc", "roc_auc", "accuracy"]


@dataclass(frozen=True)
class UseCase:
    """What to learn, as names and plain values: nothing is imported before a stage needs it.

    Every use case is a package with the same file names, so knowing one is knowing all:

    - ``data.py``: ``prepare(data, cache, columns) -> Path``, ``settings(spans) -> dict`` and
      ``examples(pipeline, spans, settings) -> PCollection[(split, RecordBatch)]``; beside train, valid and eval it may give
      ``normal``, rows with or without a label that say what is usual; where a case has a policy also
      ``unseen(settings) -> int``, the last spans of a window that training does not look at;
    - ``schema.pbtxt``: what the raw features have to be, read and kept by people;
    - ``features.py``: ``preprocessing_fn(inputs, custom_config)`` for ``tft``;
    - ``model.py``: ``build``, ``loss``, ``answers`` and ``operating_point``;
    - ``evaluation.py``: ``eval_config(settings)`` with thresholds and slices;
    - ``collected.py``, where there is a policy: ``write(folder, rows, labels, settings) -> int`` makes a raw span of rows
      that were served;
    - ``sentences.py``, where rows form sequences: ``sentences(examples, settings)``, from which an embedding is learnt, its
      settings in the group ``embedding``.

    Attributes:
        name: The word on the command line.
        title: One line for people.
        package: Where the files above are.
        label: The raw feature that is predicted.
        key: The raw feature that names a row; kept out of statistics and of the model.
        settings: Every default, overridden by ``--set NAME=VALUE``, in the groups ``data``, ``training`` and ``gates``: a
            stage is told the groups it uses, so that a change reruns those stages only.
        watch: Raw features whose drift matters.
        explained: By watched feature, raw features that say what it would be: what is left of it varies less from day to
            day, so that a smaller drift shows.
        time: The raw feature with a row's time in seconds since 1970, by whose days drift is watched; empty for none.
        window_rows: Rows that drift is watched by, where they have no time.
        picture: The raw feature that holds a picture's file, whose pixels are watched too; empty where there is none.
        policy: When the model is trained again; None for never.
        score: Key of the answer that carries the prediction.
        headline: The metric that a person asks for first, as the Evaluator names it.
        space: What the Tuner may try, by the name of a training setting: choices, or ``{"low": ..., "high": ...}``.
    """

    name: str
    title: str
    package: str
    label: str
    key: str
    headline: Headline
    score: str
    settings: Mapping[str, Mapping[str, Any]]
    watch: tuple[str, ...] = ()
    explained: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    time: str = ""
    window_rows: int = 500
    picture: str = ""
    policy: Policy | None = None
    space: Mapping[str, Any] = field(default_factory=dict)

    @property
    def watching(self) -> dict[str, Any]:
        """What is watched of a row, for the key of a stage that watches."""
        return {name: getattr(self, name) for name in ("watch", "explained", "time", "picture")}

    def module(self, part: str) -> str:
        """Importable name of one of the package's files, such as ``module("model")``."""
        return f"{self.package}.{part}"

    def load(self, part: str) -> Any:
        """The module itself; this is where a stage pays for the import."""
        return import_module(self.module(part))

    def has(self, part: str) -> bool:
        """Whether the package has that file; only the package itself is imported."""
        return (self._folder / f"{part}.py").is_file()

    @property
    def schema_path(self) -> Path:
        """The curated schema in the package's folder."""
        return self._folder / "schema.pbtxt"

    @property
    def _folder(self) -> Path:
        return Path(import_module(self.package).__path__[0])

    def configured(self, changes: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """Settings by group with ``changes`` applied, each read as the type of its default.

        Raises:
            ValueError: for an unknown name or a value of another type, naming what is possible.
        """
        known = {name for group in self.settings.values() for name in group}
        for name in changes:
            if name not in known:
                near = get_close_matches(name, known, 1)
                meant = f" Did you mean {near[0]}?" if near else ""
                raise ValueError(f"{self.name} has no setting '{name}'; it has {', '.join(sorted(known))}.{meant}")
        return {
            group: {
                name: _read(name, changes[name], value) if name in changes else value for name, value in values.items()
            }
            for group, values in self.settings.items()
        }


def _read(name: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError(f"Setting '{name}' is true or false, not '{text}'.")
        return text.lower() == "true"
    try:
        return type(default)(text)
    except ValueError:
        raise ValueError(f"Setting '{name}' takes a {type(default).__name__}, not '{text}'.") from None
