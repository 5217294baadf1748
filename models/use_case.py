"""``UseCase``: the definition of a use case (data, model, metrics, gates)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from models.retraining_policy import RetrainingPolicy
from models.setting_limits import Combination, Limit, check_limits
from models.setting_values import parse_value

# The metrics that can also be estimated without labels.
Headline = Literal["pr_auc", "roc_auc", "accuracy"]


@dataclass(frozen=True)
class UseCase:
    """Definition of a use case as names and plain values; its modules are imported only when a stage needs them.

    Every use case is a package with the same file names:

    - ``data.py``: ``prepare(data, cache, columns) -> Path``, ``settings(spans) -> dict`` and
      ``examples(pipeline, spans, settings) -> PCollection[(split, RecordBatch)]``; besides train, valid and eval it may
      yield the split ``normal``, rows with or without a label for the reference profile;
      ``read_raw(span, settings) -> Iterator[RecordBatch]`` reads a span as it is; a case with a policy also has
      ``unseen(settings) -> int``, the number of last spans of a window that training holds out;
    - ``schema.pbtxt``: the curated schema of the raw features;
    - ``features.py``: ``preprocessing_fn(inputs, custom_config)`` for ``tft``;
    - ``model.py``: ``build``, ``loss``, ``answers`` and ``operating_point``;
    - ``evaluation.py``: ``eval_config(settings)`` with thresholds and slices;
    - ``online_requests.py``, if the gateway serves it: ``online()``, which checks requests, makes features of them and
      answers; see ``serving.gateway.use_case_interface``;
    - ``collected.py``, if there is a policy: ``write(folder, rows, labels, settings) -> int`` writes served rows as a
      raw span;
    - ``sentences.py``, if rows form sequences: ``sentences(examples, settings)`` for the embedding, whose settings are
      the group ``embedding``;
    - ``traffic.py``, if the gateway serves it: ``requests(...)``, ``renew(body, number)`` and ``check(answer)``, for traffic
      that is sent to it;
    - ``demo.py``, if rows and their drift can be generated: ``plan_traffic`` and ``POLICY`` of the demonstration, and
      ``BROKEN_SPANS`` and ``SHIFT`` of the incidents.

    Attributes:
        name: Name on the command line.
        title: One-line description.
        package: Importable name of the package with the files above.
        label: Raw feature to predict.
        key: Raw feature that identifies a row; left out of statistics and of the model.
        settings: All defaults, which ``--set NAME=VALUE`` overrides, in the groups ``data``, ``training`` and
            ``gates``. A stage gets only the groups it uses, so that a change reruns only those stages.
        limits: Range of each numeric setting, and choices of each text that has them.
        combinations: Conditions on several settings.
        watch: Raw features that are watched for drift.
        explained: For a watched feature, the raw features that predict it: the residual varies less from day to day, so
            that a smaller drift is detected.
        time: Raw feature with a row's time in seconds since 1970; drift windows are its days. Empty for none.
        card: Raw feature with the card or customer that a review blocks; empty if positives are not reviewed.
        amount: Raw feature with the value at stake in a row, for reviews.
        window_rows: Rows of a drift window, for rows without a time.
        picture: Raw feature with an image file, whose pixels are watched too; empty for none.
        policy: The retraining policy; None for never.
        score: Key of the answer that is the prediction.
        headline: The most important metric, by the Evaluator's name.
        space: The Tuner's search space by training setting: choices, or ``{"low": ..., "high": ...}``.
    """

    name: str
    title: str
    package: str
    label: str
    key: str
    headline: Headline
    score: str
    settings: Mapping[str, Mapping[str, Any]]
    limits: Mapping[str, Limit] = field(default_factory=dict)
    combinations: tuple[Combination, ...] = ()
    watch: tuple[str, ...] = ()
    explained: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    time: str = ""
    card: str = ""
    amount: str = ""
    window_rows: int = 500
    picture: str = ""
    policy: RetrainingPolicy | None = None
    space: Mapping[str, Any] = field(default_factory=dict)

    @property
    def watched_inputs(self) -> dict[str, Any]:
        """The inputs that drift monitoring watches, for the cache key of the stages that use them."""
        return {name: getattr(self, name) for name in ("watch", "explained", "time", "picture")}

    def module(self, part: str) -> str:
        """Importable name of one of the package's files, such as ``module("model")``."""
        return f"{self.package}.{part}"

    def load(self, part: str) -> Any:
        """Import one of the package's files and return the module."""
        return import_module(self.module(part))

    def has(self, part: str) -> bool:
        """Whether the package has that file; imports only the package itself."""
        return (self._folder / f"{part}.py").is_file()

    @property
    def schema_path(self) -> Path:
        """The curated schema in the package's folder."""
        return self._folder / "schema.pbtxt"

    @property
    def _folder(self) -> Path:
        return Path(import_module(self.package).__path__[0])

    def configure(self, changes: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """Return the settings by group with ``changes`` applied, each parsed as the type of its default.

        Raises:
            ValueError: for an unknown name, a value of another type or outside its limit, or a combination that cannot
                work; the message says what is possible.
        """
        names = {name for group in self.settings.values() for name in group}
        for name in changes:
            if name not in names:
                near = get_close_matches(name, names, 1)
                suggestion = f" Did you mean {near[0]}?" if near else ""
                raise ValueError(f"{self.name} has no setting '{name}'; it has {', '.join(sorted(names))}.{suggestion}")
        settings = {
            group: {
                name: parse_value(f"Setting '{name}'", changes[name], type(value)) if name in changes else value
                for name, value in values.items()
            }
            for group, values in self.settings.items()
        }
        flat = {name: value for values in settings.values() for name, value in values.items()}
        check_limits(flat, self.limits, self.combinations)
        return settings


def parse_settings(assignments: list[str], option: str = "--set") -> dict[str, str]:
    """Return the changes that :meth:`UseCase.configure` takes, from texts of the form NAME=VALUE.

    Raises:
        ValueError: for a text without a name and an equals sign; the message names the option.
    """
    for assignment in assignments:
        if assignment.find("=") < 1:
            raise ValueError(f"{option} takes NAME=VALUE, not '{assignment}'.")
    return dict(assignment.split("=", 1) for assignment in assignments)
