"""Stands in for torchcodec where that is not installed or does not load: `datasets` decodes audio with nothing else."""

__version__ = "0.13.0"
