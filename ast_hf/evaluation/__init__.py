"""Checkpoints on labelled data. Needs the extra `train`."""
