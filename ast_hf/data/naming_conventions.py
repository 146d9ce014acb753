"""Conventional names in data sets (suffixes, columns, metadata files, splits), types of sources and rows."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, TypeAlias

#: Suffixes of the formats that soundfile decodes.
_SOUNDFILE_SUFFIXES = frozenset(
    {".wav", ".wave", ".rf64", ".w64", ".flac", ".ogg", ".opus", ".oga", ".mp3", ".mp2", ".aif", ".aiff"}
    | {".aifc", ".au", ".caf"}
)

#: Suffixes of the formats that the extra `codecs` decodes.
CODED_SUFFIXES = frozenset(
    {".m4a", ".m4b", ".m4r", ".aac", ".wma", ".amr", ".awb", ".mka", ".weba", ".mp4", ".m4v", ".mov", ".3gp"}
    | {".3g2", ".webm", ".mkv", ".avi", ".wmv", ".asf", ".flv", ".mpg", ".mpeg", ".mts", ".m2ts"}
)

#: Suffixes of sound that is not decoded.
_OTHER_SUFFIXES = frozenset(
    {".alac", ".ac3", ".eac3", ".dts", ".ape", ".wv", ".tta", ".tak", ".mpc", ".shn", ".dsf", ".dff", ".spx"}
    | {".ra", ".ogv", ".sph", ".nist", ".raw", ".pcm", ".voc", ".gsm", ".vox", ".snd"}
)

_HAS_CODECS = importlib.util.find_spec("av") is not None

#: Suffixes that count as audio in label folders: the formats that can be decoded here.
AUDIO_SUFFIXES = _SOUNDFILE_SUFFIXES | (CODED_SUFFIXES if _HAS_CODECS else frozenset())

#: Suffixes of sound that cannot be decoded here: label folders warn that these files are left out.
UNREAD_SUFFIXES = _OTHER_SUFFIXES | (frozenset() if _HAS_CODECS else CODED_SUFFIXES)

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
