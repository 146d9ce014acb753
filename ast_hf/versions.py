"""Versions of the packages that affect a result."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from typing import Any

from .errors import error
from .package_origin import package_origin

#: Packages that affect the numbers of a run or an evaluation.
_RESULT_PACKAGES = ("ast_hf", "torch", "transformers", "datasets", "soundfile", "numpy")

#: How to install a package where no address of it is known.
FROM_CLONE = "pip install ."


#: Modules of the extra `train` that every training run uses.
TRAINING_MODULES = ("sklearn", "matplotlib", "yaml", "jinja2")


def check_modules(where: str, *modules: str) -> None:
    """Raise E108 if modules of the extra `train` are not installed, before hours of work end at one of them."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        what = f"needs {', '.join(missing)}, not installed"
        raise error("E108", where=where, what=what, fix='pip install "ast_hf[train]"')


def result_versions() -> dict[str, str]:
    """Return the installed versions of the packages that affect a result, to be stored with it."""
    return {name: importlib.metadata.version(name) for name in _RESULT_PACKAGES}


def result_origins() -> dict[str, dict[str, str | None]]:
    """Return where others find the packages of `result_versions`, see `Origin.to_dict`."""
    return {name: package_origin(name).to_dict() for name in _RESULT_PACKAGES}


def requirement_lines(results: Mapping[str, Any]) -> list[str]:
    """Return lines of a requirements.txt for the `versions` in a results.json, which pip can install.

    A package that no index or public address has is a comment that says how to get it. Results of older versions have
    no `origins`: then every package but this one is taken to be from the index.
    """
    versions = results.get("versions") or {}
    origins = results.get("origins") or {
        name: {"requirement": None if name == "ast_hf" else f"{name}=={version.partition('+')[0]}"}
        for name, version in versions.items()
    }
    return [
        _requirement_line(name, version, origins.get(name) or {})
        for name, version in sorted(versions.items())
    ]


def _requirement_line(name: str, version: str, origin: Mapping[str, Any]) -> str:
    if origin.get("requirement"):
        return str(origin["requirement"])
    url = origin.get("url")
    if name != "ast_hf":
        return f"# {name} {version}: not from the index of pip" + (f", see {url}" if url else "")
    if url:
        return f"# {name} {version}: installed from a local copy; in a clone of {url}, run {FROM_CLONE}"
    return f"# {name} {version}: no address of it is known; in a clone of its repository, run {FROM_CLONE}"


def install_command(origin: Mapping[str, Any]) -> str:
    """Return the command that installs this package with its origin, as results.json stores it."""
    requirement = origin.get("requirement")
    return FROM_CLONE if not requirement else f'pip install "{requirement}"'
