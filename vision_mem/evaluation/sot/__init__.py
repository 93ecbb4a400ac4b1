"""One object, or a few given on the first frame: sets, measures, scores."""
