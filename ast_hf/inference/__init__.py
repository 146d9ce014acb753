"""Audio in, scored labels out."""
