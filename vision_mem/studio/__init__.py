"""A page for a live memory: streams that can be pointed at, corrected and asked while they run."""
