"""Vision-language models that watch streams and answer, and what stands in for them."""
