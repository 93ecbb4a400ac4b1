"""The learned reconstruction network, its layers and weights."""
