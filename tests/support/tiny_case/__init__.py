"""A minimal third use case: on which side of a line a point is."""
