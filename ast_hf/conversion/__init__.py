"""Other formats as complete checkpoint folders."""
