"""A third use case, as small as can be: which side of a line a point lies on."""
