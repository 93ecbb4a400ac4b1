"""Space: an octree of free and occupied cells, and the rays that fill it."""
