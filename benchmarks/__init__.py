"""One module a question; `python -m benchmarks.report` asks them all and writes RESULTS.md."""
