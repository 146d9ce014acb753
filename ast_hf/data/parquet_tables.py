"""Rows of Parquet files, and the audio in them, which stays in the file's memory map."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Audio, Dataset, Value, config
from pyarrow.parquet import ParquetFile

from ..errors import AstHfError, error, unreadable
from ..writing_failures import cannot_write
from .naming_conventions import PATH_COLUMNS, Row
from .splits import class_feature, class_names_of, is_stored_audio

#: First bytes of audio files: WAV, RF64, FLAC, Ogg, AIFF, MP3 (ID3 or a frame), AU, CAF.
_FIRST_BYTES = (
    b"RIFF",
    b"RF64",
    b"fLaC",
    b"OggS",
    b"FORM",
    b"ID3",
    b"\xff\xfb",
    b"\xff\xf3",
    b".snd",
    b"caff",
)


class Samples(NamedTuple):
    """Cell of a column of decoded audio, which is not read; `has_rate` if it states its sampling rate."""

    has_rate: bool


class ParquetContent(NamedTuple):
    """The contents of a file, as the attributes of `Table` with these names."""

    rows: list[Row]
    embedded: dict[str, Dataset]
    names: dict[str, list[str]]


def read_parquet(path: Path) -> ParquetContent:
    """Return the contents of a Parquet file.

    A column of audio holds encoded files: as bytes, or as a struct of `bytes` and `path`. A column of decoded
    samples has `Samples` as its cells.

    Raises:
        AstDataError: E206 for a file that cannot be opened; E208 for one that is not Parquet or damaged, for
            rows without audio where others have some, and for class indices without a name.
        AstRunError: E401 if the cache of `datasets` cannot be written.
    """
    if not _count_rows(path):
        return ParquetContent([], {}, {})
    try:
        return _content(Dataset.from_parquet(str(path)), path)
    except AstHfError:
        raise
    except Exception as problem:  # pyarrow and datasets raise many classes for damaged files
        raise _unread(path, problem.__cause__ or problem) from problem


def _count_rows(path: Path) -> int:
    try:
        with ParquetFile(path) as file:
            return file.metadata.num_rows
    except Exception as problem:  # pyarrow raises many classes for damaged footers
        where = repr(str(path))
        if getattr(problem, "errno", None):
            fix = "give a readable file"
            raise unreadable("E206", where=where, problem=problem, fix=fix) from problem
        fix = "copy it again; a git-lfs pointer needs `git lfs pull`"
        what = "is not a Parquet file"
        raise unreadable("E208", where=where, problem=problem, fix=fix, what=what) from problem


def _unread(path: Path, problem: BaseException) -> AstHfError:
    """Return the error for a file whose footer is intact."""
    if getattr(problem, "errno", None):
        then = "set HF_DATASETS_CACHE to another folder if that is not possible"
        return cannot_write(str(config.HF_DATASETS_CACHE), problem, kept=f"it takes {str(path)!r}", then=then)
    fix = "copy it again, or write it with plain columns: text, numbers, lists, and audio files as bytes"
    return unreadable("E208", where=repr(str(path)), problem=problem, fix=fix)


def _content(stored: Dataset, path: Path) -> ParquetContent:
    for name in stored.column_names:
        if _holds_files(stored, name):
            stored = _as_audio(stored, name)
    audio = [name for name, feature in stored.features.items() if is_stored_audio(feature)]
    samples = {name: cell for name in stored.column_names if (cell := _samples(stored, name)) is not None}
    classes = ((name, class_feature(feature)) for name, feature in stored.features.items())
    names = {name: feature.names for name, feature in classes if feature}
    rows: list[Row] = list(stored.remove_columns([*audio, *samples]))
    rows = rows or [{} for _ in range(len(stored))]  # without these, a table may have no columns
    for name, class_names in names.items():
        for number, row in enumerate(rows, start=1):
            row[name] = class_names_of(row[name], class_names, f"{path} row {number}, column {name!r}")
    embedded = {}
    for name in audio:
        for row, file in zip(rows, _stored_field(stored, name, "path"), strict=True):
            row[name] = file
        if _embeds_audio(stored, name, path):
            embedded[name] = stored.select_columns([name]).cast_column(name, Audio(decode=False))
    for name, cell in samples.items():
        for row in rows:
            row[name] = cell
    return ParquetContent(rows, embedded, names)


def _holds_files(stored: Dataset, name: str) -> bool:
    """Return True for a column of encoded files in another form than that of `datasets`."""
    feature = stored.features[name]
    if isinstance(feature, dict):
        fields = feature.keys()
        return (
            not is_stored_audio(feature)
            and "array" not in fields
            and ("bytes" in fields or {"path"} == fields)
        )
    if not _is_binary(feature):
        return False
    cells = (cell.as_py() for chunk in stored.data.column(name).chunks for cell in chunk if cell.is_valid)
    return name in PATH_COLUMNS or next(cells, b"").startswith(_FIRST_BYTES)


def _is_binary(feature: Any) -> bool:
    return isinstance(feature, Value) and "binary" in feature.dtype


def _as_audio(stored: Dataset, name: str) -> Dataset:
    """Return the data set with a column as `datasets` stores audio; no audio is decoded."""
    if _is_binary(stored.features[name]):
        stored = stored.cast_column(name, Value("binary"))
    return stored.cast_column(name, Audio(decode=False))


def _samples(stored: Dataset, name: str) -> Samples | None:
    """Return the cell that stands for decoded audio in a column that could name clips, None for others."""
    feature = stored.features[name]
    if name not in PATH_COLUMNS or is_stored_audio(feature):
        return None
    if isinstance(feature, dict) and "array" in feature:
        return Samples(has_rate="sampling_rate" in feature)
    return Samples(has_rate=False) if hasattr(feature, "feature") or isinstance(feature, list) else None


def _stored_field(stored: Dataset, column: str, field_name: str) -> Iterator[Any]:
    """Yield a field of all rows of an audio column, without copying the audio into memory."""
    for chunk in stored.data.column(column).chunks:
        yield from chunk.field(field_name).to_pylist()


def _embeds_audio(stored: Dataset, column: str, path: Path) -> bool:
    """Return True if all rows embed audio, False if none does; raise E208 if only some do."""
    chunks = stored.data.column(column).chunks
    valid = [row for chunk in chunks for row in chunk.field("bytes").is_valid().to_pylist()]
    if any(valid) and not all(valid):
        where = f"{path} row {valid.index(False) + 1}, column {column!r}"
        raise error("E208", where=where, what="embeds no audio, other rows do", fix="embed all files or none")
    return any(valid)
