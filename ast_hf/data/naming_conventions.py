"""Conventional names in data sets (suffixes, columns, metadata files, splits), types of sources and rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, TypeAlias

#: Suffixes that count as audio in label folders: the formats that soundfile decodes.
AUDIO_SUFFIXES = frozenset(
    {".wav", ".wave", ".rf64", ".w64", ".flac", ".ogg", ".opus", ".oga", ".mp3", ".mp2", ".aif", ".aiff"}
    | {".aifc", ".au", ".caf"}
)

#: Suffixes of sound that soundfile does not decode: label folders warn that these files are left out.
UNREAD_SUFFIXES = frozenset(
    {".m4a", ".m4b", ".m4r", ".aac", ".alac", ".ac3", ".eac3", ".dts", ".wma", ".amr", ".awb", ".ape"}
    | {".wv", ".tta", ".tak", ".mpc", ".shn", ".dsf", ".dff", ".spx", ".ra", ".mka", ".weba"}
    | {".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".wmv", ".flv", ".ogv", ".mpg", ".mpeg"}
    | {".3gp", ".3g2", ".sph", ".nist", ".raw", ".pcm", ".voc", ".gsm", ".vox", ".snd"}
)

#: Names of columns by priority; `wav` is the original AST repository's.
PATH_COLUMNS = ("file_name", "path", "audio", "file", "filename", "wav")
LABEL_COLUMNS = ("label", "labels", "class", "category", "target")
METADATA_FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet", "manifest.csv")

#: Folder and split names, lower case -> split.
SPLIT_NAMES = {"train": "train", "training": "train", "validation": "validation", "valid": "validation"} | {
    "val": "validation", "dev": "validation", "eval": "validation", "test": "test", "testing": "test"
}  # fmt: skip

#: Columns that bound a clip within its file, in seconds.
BOUNDARIES = ("start", "end")

#: Column of splits of windows: the recording that a window is of, by the path that names it.
RECORDING = "recording"

#: One clip of a table or of a split: column -> cell.
Row = dict[str, Any]

#: Source of `load_audio_dataset`: file, folder, list of those, mapping from splits to those, or Hub name.
_Files: TypeAlias = str | PathLike | Sequence[str | PathLike]
Source: TypeAlias = _Files | Mapping[str, _Files]
