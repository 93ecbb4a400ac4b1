"""Files of the field, read and written: masks, boxes, tracks, paths, depth, points, prompts."""
