"""Names, files and geometry of weights."""
