"""Labelled audio from anywhere as splits. Needs the extra `train`."""
