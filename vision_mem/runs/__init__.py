"""What surrounds a run: its folder, progress, signals, tally."""
