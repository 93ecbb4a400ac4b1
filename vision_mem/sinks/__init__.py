"""Where results go while a run lasts: videos, text files, tables, scenes, windows."""
