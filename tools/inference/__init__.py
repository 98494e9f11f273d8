"""Enhancement of sound files and live audio, and ONNX graphs."""
