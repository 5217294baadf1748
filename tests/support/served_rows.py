"""Rows as in the prediction log."""

DAY = 1_774_224_000_000_000  # a midnight, in microseconds since 1970


def served_purchase(n: int, **changes: object) -> dict:
    features = {
        "category": [b"travel"],
        "channel": [b"online"],
        "device": [b"phone"],
        "distance_km": [2.5],
        "amount": [9.0],
    }
    row = {
        "key": f"t{n}",
        "features": features,
        "journal": [f"t{n}", DAY + n, "c1", "m1", 10.07],
        "label": 0,
        "known": DAY + 9,
    }
    return row | changes
