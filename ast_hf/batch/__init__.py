"""Many recordings classified to files, in a way that an interruption loses nothing."""
