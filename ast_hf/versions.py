"""Versions of the packages that decide a result."""

from __future__ import annotations

import importlib.metadata

#: Packages that decide what a run or an evaluation measures.
_OF_RESULTS = ("ast_hf", "torch", "transformers", "datasets", "soundfile", "numpy")


def result_versions() -> dict[str, str]:
    """Versions of the packages that decide a result, to stand beside it."""
    return {name: importlib.metadata.version(name) for name in _OF_RESULTS}
