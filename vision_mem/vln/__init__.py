"""Vision-and-language navigation on street graphs: agents that follow instructions."""
