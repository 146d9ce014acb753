"""Files that belong to a folder, and files that a link or `..` takes from elsewhere.

A folder from a stranger may link to a private file, which must not be published with it.
"""

from __future__ import annotations

import os
from pathlib import Path


def is_outside(path: str | Path, root: str | Path) -> bool:
    """Return True if a path, with its links followed, leads out of a folder and of `places_of` it."""
    return not is_below(os.path.realpath(path), places_of(root))


def is_below(path: str, places: tuple[str, ...]) -> bool:
    """Return True if a path without links is one of the folders, or in one of them."""
    return any(path == place or path.startswith(place.rstrip(os.sep) + os.sep) for place in places)


def places_of(root: str | Path) -> tuple[str, ...]:
    """Return the real path of a folder, and the folders of its repository that its links lead to.

    These are the blobs of the Hub's cache, and the objects of git-annex and DataLad.
    """
    real = Path(os.path.realpath(root))
    places = [real]
    for place in (real, *real.parents):
        candidates = [place / ".git" / "annex" / "objects"]
        candidates += [place.parent / "blobs"] if place.name == "snapshots" else []
        places += filter(Path.is_dir, candidates)
    return tuple(map(str, places))
