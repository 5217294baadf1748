"""Image classification: which of the classes a picture shows."""

from models.defaults import TRAINING
from models.use_case import UseCase

CASE = UseCase(
    name="image",
    title="Image classifier over pictures of any folder of classes",
    package="models.image",
    label="label_id",
    key="key",
    headline="accuracy",
    score="probabilities",
    settings={
        "data": {
            # 0 means: as the source has it.
            "height": 0,
            "width": 0,
            "channels": 0,
            "classes": "",
            "valid_share": 0.1,
            "eval_share": 0.2,
        },
        "training": {
            **TRAINING,
            "epochs": 30,
            "max_steps": 10_000,
            "patience": 12,
            "learning_rate": 0.004,
            "weight_decay": 0.05,
            "filters": 24,
            "dropout": 0.3,
            "batch_norm": True,
            # Pictures changed while training: moved by a share of their sides, mirrored, a part hidden with a probability.
            "augment": True,
            "shift": 0.08,
            "flip": False,
            "erase": 0.5,
            # A pretrained base under a new head: a file, a folder or a Keras application; empty for a network of ours.
            "transfer": "",
        },
        "gates": {
            # Thresholds of the Evaluator, absolute and against the blessed model.
            "min_accuracy": 0.90,
            "min_class_accuracy": 0.70,
            "max_accuracy_loss": 0.01,
            # LiteExporter: the largest difference of probability and loss of metric that a variant may have.
            "lite_tolerance": 1e-4,
            "lite_metric_loss": 0.01,
        },
    },
    watch=("brightness", "contrast"),
)
