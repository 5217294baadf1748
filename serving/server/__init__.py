"""The model server: TensorFlow Serving's interfaces over one engine."""
