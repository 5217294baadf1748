"""The gateway: raw rows in, scores and decisions out, history and log beside."""
