"""Evaluation of checkpoints on labelled data. Needs the extra `train`."""
