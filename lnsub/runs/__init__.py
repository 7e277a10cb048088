"""Records, the folder of a run, and a tree of runs as one table."""
