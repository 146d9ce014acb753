"""The options of a training run. Needs the extra `train`."""
