"""Runs the exported `.tflite` on devices from Python, C++ and Java, with sample code for Android."""
