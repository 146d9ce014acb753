"""Clips that were read from outside of their data folder, which must not be published.

A `Dataset` keeps the path of a clip and not the folder that it was read for, so this process remembers the paths.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import error

_outside: set[str] = set()


def remember_outside(paths: Iterable[str]) -> None:
    """Remember absolute paths of clips that a link, `..` or an absolute path took from outside."""
    _outside.update(paths)


def check_inside(paths: Iterable[str | None], where: str) -> None:
    """Raise E705 if some of the paths were read from outside of their data folder.

    Args:
        paths: absolute paths of clips, None for embedded audio.
        where: the split, for the message.
    """
    outside = [path for path in paths if path in _outside]
    if outside:
        what = f"has {len(outside)} clips from outside of its data folder, first {outside[0]!r}"
        fix = "name the folder that they are in with audio_root= when reading, copy them, or leave them out"
        raise error("E705", where=where, what=what, fix=fix)
