"""Success and precision, average overlap, J and F, VOT's measures."""
