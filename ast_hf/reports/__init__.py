"""Cards and pictures of results. Needs the extra `train`."""
