"""HOTA, CLEAR MOT, IDF1, and the overlaps that they share."""
