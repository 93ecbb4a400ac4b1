"""SAM 2, unpatched, called at its seams only."""
