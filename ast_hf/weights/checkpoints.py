"""Checkpoint files of a folder or a Hub name, downloaded into the cache and checked."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HTTPError

from ..configuration_ensemble import ASTEnsembleConfig, check_members
from ..downloads import is_passing, verify_download
from ..errors import AstHfError, error, unreadable
from .integrity import check_folder, quantization_error
from .reading import WEIGHTS_FILES, Checkpoint, is_quantized, read_config, shard_files, weights_files

#: Seconds between the tries of a download, as those of the client's other requests (its `http_backoff`).
_WAITS = (1.0, 2.0, 4.0, 8.0, 8.0)
#: Arguments of `from_pretrained` that locate the files.
HUB_ARGUMENTS = (
    "cache_dir",
    "force_download",
    "local_files_only",
    "proxies",
    "revision",
    "subfolder",
    "token",
)
#: Arguments that choose other weights files than the default ones; transformers reads these.
_OTHER_FILES = ("gguf_file", "variant")


def find_checkpoint(source: str | PathLike | None, arguments: dict[str, Any]) -> Checkpoint | None:
    """Return the files of a folder or a Hub name; files on the Hub are downloaded into the cache.

    `source` and `arguments` are those of `from_pretrained`. None for other formats and names that do not
    exist, which transformers reads or reports. Raises the errors of `check_folder`, and E306 for an ensemble.
    """
    if source is None or any(arguments.get(name) for name in _OTHER_FILES):
        return None
    subfolder = arguments.get("subfolder") or ""
    folder = check_folder(source, subfolder=subfolder, cache_dir=arguments.get("cache_dir"), classifier=False)
    if folder is None:
        folder = _download(source, hub_arguments(arguments))
    if folder is None:
        return None
    config = read_config(folder / "config.json")
    _refuse_ensemble(config, source)
    if is_quantized(config) or arguments.get("quantization_config"):
        return None
    weights = weights_files(folder)
    return Checkpoint(config, weights) if weights else None


def _download(source: str | PathLike, hub: dict[str, Any]) -> Path | None:
    """Return the checked folder in the cache, or None if the Hub does not have config.json and weights."""
    config = _cached_file(source, "config.json", hub)
    if config is None:
        return None
    _refuse_ensemble(read_config(config), source)
    if not any(_cached_file(source, name, hub) for name in WEIGHTS_FILES):
        return None
    folder = config.parent
    for shard in shard_files(folder):
        _cached_file(source, shard.name, hub)
    try:
        check_folder(folder, classifier=False)
    except AstHfError as problem:
        where = f"{str(source)!r}: {problem.where}"
        parts = {"what": problem.what, "fix": problem.fix, "detail": problem.detail}
        raise error(problem.code, where=where, **parts) from problem
    return folder


@contextmanager
def quantization_explained(source: str | PathLike | None, arguments: dict[str, Any]) -> Iterator[None]:
    """Raise E302 instead of another library's error, if the checkpoint's config.json asks for quantisation."""
    try:
        yield
    except AstHfError:
        raise
    except (ImportError, TypeError, ValueError, AttributeError, KeyError, RuntimeError) as problem:
        subfolder = str(arguments.get("subfolder") or "")
        config = None if source is None else Path(source, subfolder, "config.json")
        if config is not None and not config.is_file():
            config = _cached_file(source, "config.json", hub_arguments(arguments))
        if config is None or not is_quantized(read_config(config)):
            raise
        raise quantization_error(repr(str(source)), problem) from problem


def _refuse_ensemble(config: dict[str, Any], source: str | PathLike) -> None:
    if config.get("model_type") != ASTEnsembleConfig.model_type:
        return
    first = check_members(config.get("members"))[0]
    what = "holds an ensemble, not one model"
    fix = f"load all of it with ASTEnsembleForAudioClassification, or one member with subfolder={first!r}"
    raise error("E306", where=repr(str(source)), what=what, fix=fix, detail="unsupported")


def pinned_revision(source: str | PathLike, arguments: dict[str, Any]) -> str | None:
    """Return the commit that a revision on the Hub points to now, so that all files are of the same commit.

    A folder, or a name whose commit is unknown, returns the `revision` of `arguments`.
    """
    config = None if Path(source).is_dir() else _cached_file(source, "config.json", hub_arguments(arguments))
    commit = re.search(r"/snapshots/([0-9a-f]{40})/", config.as_posix()) if config is not None else None
    return commit[1] if commit else arguments.get("revision")


def hub_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` that locate the files, without those that are None."""
    return {name: arguments[name] for name in HUB_ARGUMENTS if arguments.get(name) is not None}


def _cached_file(source: str | PathLike | None, name: str, hub: dict[str, Any]) -> Path | None:
    """Return the verified cached copy of a file on the Hub, or None.

    A download that breaks, which the client does not repeat, is tried again. Raises E704 or transformers' own error
    if that fails too, E706 for a file that differs from the Hub's.
    """
    from transformers.utils import cached_file

    end = time.monotonic() + sum(_WAITS)
    for wait in (*_WAITS, None):
        try:
            path = cached_file(source, name, **hub)
            break
        except (OSError, HTTPError) as problem:
            if not is_passing(problem):  # missing, or not reached: from_pretrained reports which
                return None
            if wait is None or time.monotonic() > end:
                if isinstance(problem, OSError):
                    raise
                what = f"{name} cannot be downloaded"
                fix = "check the connection, then try again"
                where = repr(str(source))
                raise unreadable("E704", where=where, what=what, problem=problem, fix=fix) from problem
            time.sleep(wait)
    if path is None:
        return None
    verify_download(Path(path))
    return Path(path)
