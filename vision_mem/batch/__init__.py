"""Many videos, one command: what is to be run, where, and what came out."""
