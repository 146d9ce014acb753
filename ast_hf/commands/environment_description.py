"""Description of the environment: versions, hardware, and packages that are known to break transformers."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import sys
from pathlib import Path

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
    """Return versions, hardware, and advice on packages that would break transformers here."""
    import torch

    lines = [("python", f"{platform.python_version()} ({sys.executable})")]
    lines += [(name, _version(name)) for name in _PACKAGES]
    lines.append(("libsndfile", _libsndfile_version()))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    lines.append(("hardware", f"{os.cpu_count()} cores, {torch.get_num_threads()} torch threads, {device}"))
    lines += [(name, _health(name)) for name in _HARMFUL_WHEN_BROKEN]
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    return [*lines, ("hub cache", f"{home}{'' if home.exists() else ' (does not exist yet)'}")]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return 'not installed (pip install "ast_hf[train]")'


def _libsndfile_version() -> str:
    import soundfile

    return soundfile.__libsndfile_version__


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
