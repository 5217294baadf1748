"""Card fraud: score a purchase from its own features and its point-in-time history."""

from models.default_settings import SEARCH_SPACE, SEED, SHARE, TRAINING, TRAINING_LIMITS
from models.retraining_policy import RetrainingPolicy
from models.setting_limits import Combination, Range
from models.use_case import UseCase

# Networks that can read a customer's last purchases.
ENCODERS = ("gru", "dense", "attention", "none")
CASE = UseCase(
    name="fraud",
    title="Card-fraud model over purchases and their point-in-time history",
    package="models.fraud",
    label="is_fraud",
    key="transaction_id",
    headline="pr_auc",
    score="score",
    settings={
        "data": {
            # The generated data set.
            "rows": 180_000,
            "days": 90,
            "data_seed": 7,
            # Days, backwards from the window's end: label delay, eval, label delay, valid, train, warm-up.
            "label_delay_days": 7,
            "warmup_days": 30,
            "valid_days": 5,
            "eval_days": 7,
            # What becomes of purchases far before or after all others: refuse or drop.
            "outliers": "refuse",
            # Pairs OURS=YOURS of column names; values of the label for fraud and for an honest purchase if not 1 and 0.
            "columns": "",
            "positive_label": "",
            "negative_label": "",
        },
        # Word2vec's parameters under their usual names: a word is a merchant, a sentence the merchants that a card visits.
        "embedding": {
            "embedding_size": 16,
            "max_vocabulary_size": 20_000,
            "min_occurrence": 5,
            "skip_window": 3,
            "num_skips": 4,
            "num_sampled": 64,
            "embedding_epochs": 4,
            "embedding_rate": 0.2,
            "embedding_seed": 1,
        },
        "training": {
            **TRAINING,
            "batch_size": 512,
            "learning_rate": 0.005,
            "width": 64,
            "members": 8,
            "frequencies": 8,
            # The loss; weight of a fraud; exponent that reduces the loss of easy examples.
            "loss": "weighted",
            "positive_weight": 1.0,
            "focal_gamma": 2.0,
            "past_encoder": "gru",
            "merchant_vectors": "frozen",
            # Costs of errors: of passing a fraud, and of stopping an honest purchase.
            "miss_cost": 120.0,
            "review_cost": 12.0,
        },
        "gates": {
            # Thresholds of the Evaluator: absolute, and relative to the blessed model.
            "min_pr_auc": 0.30,
            "max_pr_auc_loss": 0.02,
            # FitGate: how much better the metric may be on train than on valid; 0 turns the gate off.
            "max_gap": 0.3,
            # Baseline: how many cards or purchases a day are checked.
            "daily_reviews": 100,
            # LiteExporter: the largest score difference and the largest loss of the metric of a variant.
            "lite_tolerance": 1e-4,
            "lite_metric_loss": 0.01,
        },
    },
    limits={
        "rows": Range(1, 1_000_000_000),
        "days": Range(1, 36_500),
        "data_seed": SEED,
        "label_delay_days": Range(0, 365, "days"),
        "warmup_days": Range(0, 3650, "days"),
        "valid_days": Range(1, 3650, "days"),
        "eval_days": Range(1, 3650, "days"),
        "outliers": ("refuse", "drop"),
        "embedding_size": Range(1, 1024),
        "max_vocabulary_size": Range(2, 10_000_000, "words"),
        "min_occurrence": Range(1, 1_000_000),
        "skip_window": Range(1, 100, "words"),
        "num_skips": Range(1, 200),
        "num_sampled": Range(1, 10_000, "words"),
        "embedding_epochs": Range(1, 1000),
        "embedding_rate": Range(1e-9, 10.0),
        "embedding_seed": SEED,
        **TRAINING_LIMITS,
        "width": Range(2, 8192),
        "members": Range(1, 256),
        "frequencies": Range(0, 256),
        "loss": ("weighted", "focal"),
        "positive_weight": Range(1e-3, 1e6),
        "focal_gamma": Range(0.0, 10.0),
        "past_encoder": ENCODERS,
        "merchant_vectors": ("frozen", "tuned", "none"),
        "miss_cost": Range(1e-6, 1e9),
        "review_cost": Range(1e-6, 1e9),
        "min_pr_auc": SHARE,
        "max_pr_auc_loss": SHARE,
        "max_gap": SHARE,
        "daily_reviews": Range(1, 10_000_000, "reviews"),
        "lite_tolerance": SHARE,
        "lite_metric_loss": SHARE,
    },
    combinations=(
        Combination(("days", "rows"), lambda s: s["days"] <= s["rows"], "generated data needs a row a day"),
        Combination(
            ("num_skips", "skip_window"),
            lambda s: s["num_skips"] <= 2 * s["skip_window"],
            "num_skips must be at most twice skip_window, the number of words in the window",
        ),
    ),
    watch=("amount", "category", "channel", "device", "distance_km"),
    explained={"amount": ("category", "channel", "customer_amount_30d", "customer_count_30d", "merchant_id")},
    time="event_time",
    card="customer_id",
    amount="amount",
    # Days before the drift dilute what the days after it teach. So the policy waits for 20 drifted days, and the window is
    # just long enough to train on them alone: warm-up, 20 days, valid, eval and the label delays. Labels come late, so
    # valid and eval are short.
    policy=RetrainingPolicy(
        loss=0.05,
        insist=30,
        learn=20,
        full=0.15,
        spans=71,
        # Valid holds only the latest days: after a drift they differ from most of train without any overfitting.
        settings={"eval_days": "4", "valid_days": "3", "max_gap": "0.5"},
    ),
    space={**SEARCH_SPACE, "width": (64, 128, 256)},
)
