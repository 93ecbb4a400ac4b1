"""Jobs of any benchmark: here, on processes, GPUs or a Ray cluster; resumable."""
