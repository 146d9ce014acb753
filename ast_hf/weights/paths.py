"""Names that can only be local paths, and the nearest path that exists."""

from __future__ import annotations

import itertools
from os import PathLike
from pathlib import Path

from huggingface_hub import constants

from ..errors import nearest

#: Most entries of a folder that are compared with a missing name.
_MAX_ENTRIES = 10_000


def missing_path(name: str, *, cached: bool) -> tuple[str, str] | None:
    """Return the problem and the fix if a name can only be a missing local path; makes no request to the Hub.

    Names on the Hub are `user/name`. If a local folder `user` has an entry with a similar name, a path is
    meant, unless `cached`: the Hub's cache has the name. None for a name that the Hub may have.
    """
    first, *rest = name.rstrip("/").split("/")
    near = near_path(name)
    if len(rest) == 1 and (cached or near is None or not Path(first).is_dir()):
        return None
    what = "there is no such file or folder here, and on the Hub names are user/name"
    if len(rest) == 1:
        what = f"is taken for a path, since a folder {first!r} is here, and it holds nothing of that name"
    return what, _path_fix(near, "check the path, or give user/name")


def missing_checkpoint(name: str, cache_dir: str | PathLike | None) -> tuple[str, str] | None:
    """Return the same as `missing_path` for a checkpoint; `./`, `../`, `/` and `~` always begin a path."""
    if Path(name).exists():
        return "is not a folder", "give a checkpoint's folder or its Hub name"
    if name.startswith(("/", "./", "../", "~")):
        return "does not exist", _path_fix(near_path(name), "give a checkpoint's folder or its Hub name")
    cache = Path(cache_dir or constants.HF_HUB_CACHE)
    return missing_path(name, cached=(cache / f"models--{name.replace('/', '--')}").is_dir())


def _path_fix(near: str | None, otherwise: str) -> str:
    return f"did you mean {near!r}?" if near else otherwise


def near_path(name: str) -> str | None:
    """Return the existing path nearest to a missing one, whose first missing part is replaced; or None."""
    path = Path(name)
    try:
        folder = next(parent for parent in path.parents if parent.is_dir())
        missing, *rest = path.relative_to(folder).parts
        entries = [entry.name for entry in itertools.islice(folder.iterdir(), _MAX_ENTRIES)]
    except (OSError, StopIteration, ValueError):  # a folder without read permission has no names to offer
        return None
    near = nearest(missing, (entry for entry in entries if not entry.startswith(".")))
    if near is None:
        return None
    complete = folder.joinpath(near, *rest)
    return str(complete if complete.exists() else folder / near)
