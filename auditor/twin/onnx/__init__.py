"""The ONNX twin: a small interpreter over onnx-ir; operators are a registry of small functions."""
