"""Stand-in for torchcodec if it is not installed or does not load: `datasets` decodes audio only with torchcodec."""

__version__ = "0.13.0"
