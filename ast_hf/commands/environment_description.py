"""Description of the environment: versions, known defects, hardware, and packages that break transformers."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

from ..advisories import advisories_for, fixed_in

#: Name and value.
Line = tuple[str, str]

_PACKAGES = (
    "ast_hf",
    "torch",
    "transformers",
    "datasets",
    "evaluate",
    "accelerate",
    "huggingface-hub",
    "soundfile",
)
#: Packages that are not needed. A build for another version of torch breaks `import transformers`.
_HARMFUL_WHEN_BROKEN = ("torchaudio", "torchvision", "torchcodec")


def describe_environment() -> list[Line]:
    """Return versions with their known defects, hardware, and advice on packages that would break transformers.

    Never fails: what cannot be found out is described as such.
    """
    lines = [("python", f"{platform.python_version()} ({sys.executable})")]
    for name in _PACKAGES:
        lines += _describe_package(name, _attempt(functools.partial(_version, name)))
    lines += _describe_package("libsndfile", _attempt(_libsndfile_version))
    lines += _describe_package("ffmpeg", _attempt(_ffmpeg_version))
    lines.append(("hardware", _attempt(_hardware)))
    lines += [(name, _attempt(functools.partial(_health, name))) for name in _HARMFUL_WHEN_BROKEN]
    return [*lines, ("hub cache", _attempt(_cache))]


def _attempt(describe: Callable[[], str]) -> str:
    try:
        return describe()
    except Exception as problem:  # a broken package may raise anything
        return f"unknown ({type(problem).__name__}: {' '.join(str(problem).split())[:160]})"


def _describe_package(name: str, version: str) -> list[Line]:
    """Return the line of a package, and one for each known defect of this version."""
    defects = [] if version.startswith(("unknown", "not installed")) else advisories_for(name, version)
    fixed = [f"{first} fixed {', '.join(names)}" for first, names in fixed_in(name).items()]
    text = f"{version} ({'; '.join(fixed)})" if fixed and not defects else version
    return [(name, text), *(("", f"{entry.name}: {entry.what}; {entry.reach}") for entry in defects)]


def _hardware() -> str:
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{os.cpu_count()} cores, {torch.get_num_threads()} torch threads, {device}"


def _cache() -> str:
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    return f"{home}{'' if home.exists() else ' (does not exist yet)'}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return 'not installed (pip install "ast_hf[train]")'


def _libsndfile_version() -> str:
    import soundfile

    return soundfile.__libsndfile_version__


def _ffmpeg_version() -> str:
    """Return the version of FFmpeg in PyAV's wheel, which decodes what phones and browsers record."""
    try:
        import av
    except ImportError:
        return 'not installed (pip install "ast_hf[codecs]")'
    return f"{av.ffmpeg_version_info} of av {av.__version__}"


def _health(package: str) -> str:
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed, not needed"
    try:
        importlib.import_module(package)
    except Exception as problem:
        return f"{version} is BROKEN here ({type(problem).__name__}: {problem}). Fix: pip uninstall {package}"
    return f"{version}, works"
