"""Depth, camera paths and points: sets, what is run on them, and scores against the truth."""
