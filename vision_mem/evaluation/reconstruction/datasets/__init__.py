"""Readers of sets with depth, camera paths and points."""
