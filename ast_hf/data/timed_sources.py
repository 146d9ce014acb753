"""Sources of labels with times: tables, and folders of recordings beside label files."""

from __future__ import annotations

from pathlib import Path

from ..errors import error
from .folder_tables import SplitTable
from .labelled_folders import read_labelled_folder
from .naming_conventions import METADATA_FILES, Source
from .sources import source_parts
from .tables import check_exists, check_regular, read_table


def timed_tables(source: Source) -> list[SplitTable]:
    """Return the tables of a source, each with the split that the caller or its folder gives.

    Raises:
        AstDataError: E206 for a path that does not exist, E208 for one that holds no labels with times, E209
            for an empty one.
    """
    tables: list[SplitTable] = []
    for split, part in source_parts(source):
        tables += [(split or own_split, table) for own_split, table in _read(Path(part).expanduser())]
    return tables


def _read(path: Path) -> list[SplitTable]:
    if "://" in str(path):
        fix = "download the files, and give their path"
        raise error("E206", where=repr(str(path)), what="is a URL, which is not downloaded", fix=fix)
    check_exists(path)
    if path.is_dir():
        table = next((path / name for name in METADATA_FILES if (path / name).is_file()), None)
        return read_labelled_folder(path) if table is None else [(None, read_table(table))]
    check_regular(path)
    return [(None, read_table(path))]
