"""The exported `.tflite` on devices: run from Python, C++ and Java, and told of for Android."""
