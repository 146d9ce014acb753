"""Reliability suite: bad input and faults, beside what transformers makes of them. Run by `make test-reliability`."""
