"""Describe a checkpoint in a user's terms, or the environment with what is known to break in it."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..configuration_ensemble import ASTEnsembleConfig
    from ..feature_extraction_ast import ASTFeatureExtractor

Line = tuple[str, str]

_PACKAGES = ("ast_hf", "torch", "transformers", "datasets", "evaluate", "accelerate", "huggingface-hub", "soundfile")
#: Packages that are not needed, and whose builds for another torch break `import transformers` when they are there.
_HARMFUL_WHEN_BROKEN = ("torchaudio", "torchvision", "torchcodec")


def describe_checkpoint(source: str) -> list[Line]:
    """Size, input contract and labels of a checkpoint (folder or Hub name), from its configuration files."""
    from ..configuration_ast import ASTConfig
    from ..feature_extraction_ast import ASTFeatureExtractor
    from ..modeling_ensemble import classes_for
    from ..weights.integrity import check_folder

    check_folder(source)
    kind, _ = classes_for(source)
    config, extractor = kind.from_pretrained(source), ASTFeatureExtractor.from_pretrained(source)
    if kind is not ASTConfig:
        return [("ensemble", source), *_describe_ensemble(source, config), *_shared(config, extractor)]
    frequency, time = config.patch_grid
    return [
        ("checkpoint", source),
        ("model", f"{config.num_hidden_layers} layers, {config.hidden_size} wide, {config.num_attention_heads} heads"),
        ("parameters", f"{_count_parameters(config):,}"),
        ("patches", f"{config.patch_size} x {config.patch_size}, stride {config.frequency_stride} x "
                    f"{config.time_stride}: {frequency} x {time} = {config.num_patches}, {config.num_tokens} tokens"),
        *_shared(config, extractor),
    ]  # fmt: skip


def _shared(config: Any, extractor: ASTFeatureExtractor) -> list[Line]:
    """What goes in and comes out, of one model or an ensemble."""
    from ..task import Task

    labels = [config.id2label[index] for index in range(config.num_labels)]
    shown = ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")
    return [
        ("input", f"{extractor.sampling_rate} Hz mono, the first {config.max_length / 100:.2f} s"),
        ("features", f"{config.max_length} frames x {config.num_mel_bins} mel bins, "
                     f"mean {extractor.mean:.4f}, std {extractor.std:.4f}"),
        ("task", Task.of_config(config) or "not set (scores are softmax)"),
        ("labels", f"{config.num_labels}: {shown}"),
    ]  # fmt: skip


def _describe_ensemble(source: str, config: ASTEnsembleConfig) -> list[Line]:
    """A line for each member, and the parameters of all."""
    from ..configuration_ast import ASTConfig

    members = {name: ASTConfig.from_pretrained(source, subfolder=name) for name in config.members or []}
    lines = [
        (name, f"{own.num_hidden_layers} layers, {own.hidden_size} wide, stride {own.frequency_stride} x "
               f"{own.time_stride}, {own.max_length / 100:.2f} s")
        for name, own in members.items()
    ]  # fmt: skip
    return [*lines, ("parameters", f"{sum(map(_count_parameters, members.values())):,}")]


def _count_parameters(config: object) -> int:
    import torch

    from ..modeling_ast import ASTForAudioClassification

    with torch.device("meta"):
        return ASTForAudioClassification(config).num_parameters()


def describe_environment() -> list[Line]:
    """Versions, hardware, and advice on packages that would break transformers here."""
    import torch

    lines = [("python", f"{platform.python_version()} ({sys.executable})")]
    lines += [(name, _version(name)) for name in _PACKAGES]
    lines.append(("libsndfile", _libsndfile()))
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


def _libsndfile() -> str:
    import soundfile

    return soundfile.__libsndfile_version__


def _health(package: str) -> str:
    """Whether an optional package imports; its mere presence, broken, stops transformers from importing."""
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed, not needed"
    try:
        importlib.import_module(package)
    except Exception as problem:
        return f"{version} is BROKEN here ({type(problem).__name__}: {problem}). Fix: pip uninstall {package}"
    return f"{version}, works"
