"""The demonstration: ``story`` plays its parts in order; the other modules hold the parts and what they share."""
