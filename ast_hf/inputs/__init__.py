"""Clips of a split as model inputs. Needs the extra `train`."""
