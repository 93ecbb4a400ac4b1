"""Pictures for people: drawings on frames, maps from above, rendered scenes, reports."""
