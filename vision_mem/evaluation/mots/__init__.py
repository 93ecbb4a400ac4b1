"""Many objects at once: benchmarks of masks and boxes with identities, and their metrics."""
