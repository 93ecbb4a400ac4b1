"""Questions about videos: benchmarks that ask while the video runs, and how answers are scored."""
