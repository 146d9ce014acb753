"""Versions of the packages that affect a result."""

from __future__ import annotations

import importlib.metadata

#: Packages that affect the numbers of a run or an evaluation.
_RESULT_PACKAGES = ("ast_hf", "torch", "transformers", "datasets", "soundfile", "numpy")


def result_versions() -> dict[str, str]:
    """Return the installed versions of the packages that affect a result, to be stored with it."""
    return {name: importlib.metadata.version(name) for name in _RESULT_PACKAGES}
