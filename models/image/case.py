"""Image classification: which of the classes a picture shows.

Question: B16
Answer: Settings of the case, each a switch: augmentation as layers of the model that act in training alone, batch
    normalisation, global average pooling in place of wide dense layers, dropout before the last layer, decoupled weight
    decay. Training stops after some epochs without a better accuracy on valid and keeps the best weights; a gate compares
    train with valid before a push. With few pictures start from a pretrained base. Then look at eval, which chose nothing.
Evidence: tour.evidence.training.overfitting.practice
Proof: tests/tour/evidence/test_overfitting.py::test_few_digits_are_learnt_by_heart_and_the_gate_tells_them_from_many
"""

from models.default_settings import SPACE, TRAINING
from models.retraining_policy import Policy
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
            # FitGate: how much better the metric may be on train than on valid; 0 turns the gate off.
            "max_gap": 0.08,
            # LiteExporter: the largest difference of probability and loss of metric that a variant may have.
            "lite_tolerance": 1e-4,
            "lite_metric_loss": 0.01,
        },
    },
    watch=("brightness", "contrast"),
    picture="image",
    policy=Policy(loss=0.03, insist=4, full=0.1, learn=2),
    space={**SPACE, "filters": (16, 24, 32)},
)
