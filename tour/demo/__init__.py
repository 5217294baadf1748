"""The demonstration: ``story`` plays its parts in order, each of the other modules holds one part or what the parts share."""
