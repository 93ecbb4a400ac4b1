"""Generated inputs with known truth: clips, crowds, streams with questions, rooms, cities."""
