"""Readers of copies of LaSOT, GOT-10k, OTB, DAVIS, VOT and others."""
