"""The learned reconstruction network, its layers, losses and weights."""
