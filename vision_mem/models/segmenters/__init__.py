"""Promptable video segmenters: networks that follow what they are shown."""
