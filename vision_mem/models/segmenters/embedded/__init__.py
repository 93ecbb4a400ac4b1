"""The embedded segmenter: follows real objects, weights come with the package."""
