"""Segmenters as graphs: written to a folder by ``vision-mem export``, run in ONNX Runtime."""
