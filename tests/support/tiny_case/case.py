"""Points in the plane: whether they are above the line x + y = 0."""

from models.catalog import CASES
from models.default_settings import SEARCH_SPACE, SHARE, TRAINING, TRAINING_LIMITS
from models.setting_limits import Range
from models.use_case import UseCase

CASE = UseCase(
    name="tiny",
    title="Points above a line",
    package="support.tiny_case",
    label="above",
    key="key",
    headline="accuracy",
    score="probabilities",
    settings={
        "data": {"rows": 600},
        "training": {
            **TRAINING,
            "epochs": 1,
            "max_steps": 1000,
            "patience": 1,
            "batch_size": 64,
            "learning_rate": 0.01,
            "weight_decay": 0.0,
            "width": 64,
        },
        "gates": {"min_accuracy": 0.5, "max_gap": 0.2, "lite_tolerance": 1e-5, "lite_metric_loss": 0.05},
    },
    limits={
        "rows": Range(10, 1_000_000),
        **TRAINING_LIMITS,
        "width": Range(1, 1024),
        "min_accuracy": SHARE,
        "max_gap": SHARE,
        "lite_tolerance": SHARE,
        "lite_metric_loss": SHARE,
    },
    watch=("x", "y"),
    space={"optimizer": SEARCH_SPACE["optimizer"], "learning_rate": SEARCH_SPACE["learning_rate"], "width": (16, 64)},
)

EVERY_CASE = (*CASES.values(), CASE)  # the catalog's and this one
