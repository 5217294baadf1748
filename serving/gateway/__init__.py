"""The gateway: takes raw rows, returns scores and decisions, and keeps the online history and the prediction log."""
