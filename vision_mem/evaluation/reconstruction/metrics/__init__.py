"""Errors of depth, camera paths and points."""
