"""Names of the files that the export adds to a SavedModel."""

# The folder that TensorFlow Serving reserves for additional files.
EXTRA = "assets.extra"
WEIGHTS = "model.weights.h5"
REFERENCE_PROFILE = "normal"
