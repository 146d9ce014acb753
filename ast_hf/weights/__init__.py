"""Names, files, checks and geometry of weights."""
