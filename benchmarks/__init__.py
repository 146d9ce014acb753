"""Benchmarks, one module for each question. `python -m benchmarks.report` collects them in RESULTS.md."""
