"""Settings of runs that take seconds."""

SMALL = {"rows": "3000", "days": "40", "warmup_days": "3", "valid_days": "4", "eval_days": "3"}


# Few rows: these tests check the run itself, and other tests check the bounds of the gates.
FEW = {
    "fraud": {
        "rows": 8000,
        "days": 40,
        "warmup_days": 3,
        "valid_days": 4,
        "eval_days": 4,
        "epochs": 4,
        "width": 24,
        "batch_size": 128,
        "learning_rate": 0.01,
        "min_pr_auc": 0.02,
        "max_gap": 0,
        "embedding_epochs": 1,
    },
    "image": {"epochs": 8, "min_accuracy": 0.3, "min_class_accuracy": 0, "max_gap": 0},
}
