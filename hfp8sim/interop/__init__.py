"""Codes in the files of other tools: safetensors, and ONNX models with quantised weights."""
