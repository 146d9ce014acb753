"""Rows of Parquet files, and the audio in them, which stays in the file's memory map."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Audio, Dataset, Value, config
from pyarrow.parquet import ParquetFile

from ..errors import AstHfError, error, unreadable
from ..writing_failures import cannot_write
from .decoded_audio import is_decoded, with_files
from .naming_conventions import PATH_COLUMNS, Row
from .splits import class_feature, class_names_of, is_stored_audio

#: First bytes of audio files: WAV, RF64, FLAC, Ogg, AIFF, MP3 (ID3 or a frame), AU, CAF, WebM, MP4.
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
    b"\x1aE\xdf\xa3",
    *(b"\0\0\0" + bytes([size]) + b"ftyp" for size in range(16, 64, 4)),
)


class Samples:
    """Cell of a column of samples without a sampling rate, which is not read."""


class ParquetContent(NamedTuple):
    """The contents of a file, as the attributes of `Table` with these names."""

    rows: list[Row]
    embedded: dict[str, Dataset]
    names: dict[str, list[str]]


def read_parquet(path: Path) -> ParquetContent:
    """Return the contents of a Parquet file.

    A column of audio holds encoded files, as bytes or as a struct of `bytes` and `path`, or samples, as a
    struct of `array` and `sampling_rate`. A column of samples without a rate has `Samples` as its cells.

    Raises:
        AstDataError: E206 for a file that cannot be opened; E208 for one that is not Parquet or damaged, for
            rows without audio where others have some, and for class indices without a name; the errors of
            `load_audio` for samples that are no audio.
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
    audio = {
        name: part for name in stored.column_names if (part := _audio_of(stored, name, path)) is not None
    }
    samples = [name for name in stored.column_names if name not in audio and _holds_samples(stored, name)]
    classes = ((name, class_feature(feature)) for name, feature in stored.features.items())
    names = {name: feature.names for name, feature in classes if feature}
    rows: list[Row] = list(stored.remove_columns([*audio, *samples]))
    rows = rows or [{} for _ in range(len(stored))]  # without these, a table may have no columns
    for name, class_names in names.items():
        for number, row in enumerate(rows, start=1):
            row[name] = class_names_of(row[name], class_names, f"{path} row {number}, column {name!r}")
    embedded = {}
    for name, part in audio.items():
        for row, file in zip(rows, _stored_field(part, name, "path"), strict=True):
            row[name] = file
        if _embeds_audio(part, name, path):
            embedded[name] = part
    for row in rows:
        row |= dict.fromkeys(samples, Samples())
    return ParquetContent(rows, embedded, names)


def _audio_of(stored: Dataset, name: str, path: Path) -> Dataset | None:
    """Return a column of audio as a data set with the files not decoded, None for another column."""
    column = stored.select_columns([name])
    if is_decoded(stored.features[name]):
        return with_files(column, name, str(path))
    if _holds_files(stored, name):
        return _as_audio(column, name)
    return column.cast_column(name, Audio(decode=False)) if is_stored_audio(stored.features[name]) else None


def _holds_files(stored: Dataset, name: str) -> bool:
    """Return True for a column of encoded files in another form than that of `datasets`."""
    feature = stored.features[name]
    if fields := _fields(feature):
        holds_files = "bytes" in fields or {"path"} == fields
        return holds_files and "array" not in fields and not is_stored_audio(feature)
    if not _is_binary(feature):
        return False
    cells = (cell.as_py() for chunk in stored.data.column(name).chunks for cell in chunk if cell.is_valid)
    return name in PATH_COLUMNS or next(cells, b"").startswith(_FIRST_BYTES)


def _fields(feature: Any) -> frozenset[str]:
    """Return the names of the fields of a column of structs, none for other columns."""
    return frozenset(feature) if isinstance(feature, dict) else frozenset()


def _is_binary(feature: Any) -> bool:
    return isinstance(feature, Value) and "binary" in feature.dtype


def _as_audio(stored: Dataset, name: str) -> Dataset:
    """Return the data set with a column as `datasets` stores audio; no audio is decoded."""
    if _is_binary(stored.features[name]):
        stored = stored.cast_column(name, Value("binary"))
    return stored.cast_column(name, Audio(decode=False))


def _holds_samples(stored: Dataset, name: str) -> bool:
    """Return True for a column of samples without their rate that could name clips."""
    feature = stored.features[name]
    if name not in PATH_COLUMNS:
        return False
    return isinstance(feature, list) or hasattr(feature, "feature") or "array" in _fields(feature)


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
