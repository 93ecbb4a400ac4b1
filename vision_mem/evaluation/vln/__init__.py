"""Walks on street graphs: benchmarks, measures, a controlled experiment."""
