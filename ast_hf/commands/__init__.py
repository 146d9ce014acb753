"""Commands of `ast-hf`: a module each, and their shared parts."""
