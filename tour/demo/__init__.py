"""The demonstration: `story` says in which order its parts are played."""
