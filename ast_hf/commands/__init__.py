"""What the `ast-hf` command runs and prints."""
