"""Names of the files of ours that lie beside a model."""

# The folder that TensorFlow Serving reserves for such files.
EXTRA = "assets.extra"
WEIGHTS = "model.weights.h5"
NORMAL = "normal"
