"""Readers of copies of KITTI MOTS, KITTI tracking and MOTChallenge."""
