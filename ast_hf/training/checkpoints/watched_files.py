"""Files of a training checkpoint, watched while it is loaded.

transformers loads optimizer, schedule, random state and step only if their files exist, at different times.
A file that is removed or replaced after it was verified would be a run without an optimizer.
"""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import AstHfError, error
from .sealing import MANIFEST, find_corruption, read_manifest


class WatchedFiles:
    """Verified files of a training checkpoint.

    Attributes:
        folder: the checkpoint.
        step: the step of its manifest; None for one of plain transformers, which has none.

    Args:
        folder: as above.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        manifest = read_manifest(folder)
        self.step = None if manifest is None else manifest.step
        if manifest is None:
            names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        else:
            names = [MANIFEST, *manifest.files]
        self._files = {name: _identity(folder / name) for name in names}

    def find_corruption(self) -> str | None:
        """Read all files that the manifest names; return why the checkpoint is invalid, or None."""
        return None if self.step is None else find_corruption(self.folder)

    def check(self) -> None:
        """Raise E306 if a file is gone or was written again since this object was made."""
        for name, identity in self._files.items():
            current = _identity(self.folder / name)
            if current is None or current != identity:
                reason = "is missing" if current is None else "was replaced"
                raise self.failure(f"{name} {reason} while the checkpoint was loaded")

    def failure(self, what: str) -> AstHfError:
        """Return the E306 of a checkpoint that could not be loaded completely."""
        fix = "resume with auto, which takes the newest checkpoint that is intact; let nothing else change the folder"
        return error("E306", where=repr(str(self.folder)), what=what, fix=fix, detail="unreadable")


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Return inode, size and time of modification of a file, or None if there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 (one call for all three)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
