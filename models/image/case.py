"""Image classification: predict the class of a picture.

Question: B16
Answer: I combine augmentation, batch normalisation, global average pooling instead of wide dense layers, dropout before the
    last layer and decoupled weight decay; most are settings here. Augmentation is a layer that is active only in training.
    Early stopping on validation accuracy keeps the best weights, and a gate limits the gap between train and valid. With
    few pictures, start from a pretrained base. Judge on eval, which selected nothing.
Evidence: tour.evidence.training.overfitting.regularization_of_images
Proof: tests/tour/evidence/test_overfitting.py::test_few_digits_are_learnt_by_heart_and_the_gate_tells_them_from_many
"""

from models.default_settings import SEARCH_SPACE, SHARE, TRAINING, TRAINING_LIMITS
from models.retraining_policy import RetrainingPolicy
from models.setting_limits import Combination, Range
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
            # 0: the value of the source.
            "height": 0,
            "width": 0,
            "channels": 0,
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
            # Augmentation: shift as a share of the sides, horizontal flip, probability of erasing a rectangle.
            "augment": True,
            "shift": 0.08,
            "flip": False,
            "erase": 0.5,
            # Pretrained base under a new head: a file, a folder or a Keras application; empty to train from scratch.
            "transfer": "",
        },
        "gates": {
            # Thresholds of the Evaluator: absolute, and relative to the blessed model.
            "min_accuracy": 0.90,
            "min_class_accuracy": 0.70,
            "max_accuracy_loss": 0.01,
            # FitGate: how much better the metric may be on train than on valid; 0 turns the gate off.
            "max_gap": 0.08,
            # LiteExporter: the largest difference of a probability and the largest loss of the metric of a variant.
            "lite_tolerance": 1e-4,
            "lite_metric_loss": 0.01,
        },
    },
    limits={
        "height": Range(4, 4096, "pixels", off=0),
        "width": Range(4, 4096, "pixels", off=0),
        "channels": (0, 1, 3),
        "valid_share": Range(0.001, 0.9),
        "eval_share": Range(0.001, 0.9),
        **TRAINING_LIMITS,
        "filters": Range(1, 4096),
        "shift": Range(0.0, 0.5),
        "erase": SHARE,
        "min_accuracy": SHARE,
        "min_class_accuracy": SHARE,
        "max_accuracy_loss": SHARE,
        "max_gap": SHARE,
        "lite_tolerance": SHARE,
        "lite_metric_loss": SHARE,
    },
    combinations=(
        Combination(
            ("valid_share", "eval_share"),
            lambda s: s["valid_share"] + s["eval_share"] <= 0.99,
            "together they must be at most 0.99, so that train has rows",
        ),
    ),
    watch=("brightness", "contrast"),
    picture="image",
    policy=RetrainingPolicy(loss=0.03, insist=4, full=0.1, learn=2),
    space={**SEARCH_SPACE, "filters": (16, 24, 32)},
)
