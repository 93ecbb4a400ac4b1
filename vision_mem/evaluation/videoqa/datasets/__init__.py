"""Readers of OVO-Bench, StreamingBench and ODV-Bench."""
