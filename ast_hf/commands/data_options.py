"""Options for reading labelled audio, shared by `ast-hf evaluate` and `ast-hf stats`."""

from __future__ import annotations

import argparse
from typing import Any

#: Help of the argument for the data.
DATA_HELP = "folder, table, data set by name (esc50) or Hub name of labelled audio"

_BOOLEANS = {"true": True, "false": False}
_NUMBERS = frozenset({"window_seconds", "window_hop_seconds", "empty_windows", "min_overlap"})

_CHOICES = {"clip_boundaries": tuple(_BOOLEANS), "window_labels": ("overlap", "centre")}

#: Argument of `load_audio_dataset` -> help.
_READING = {
    "config_name": "configuration of a data set on the Hub, if it has several",
    "audio_root": "folder that a table's paths are relative to",
    "class_labels": "file of the classes in their order: CSV (index,mid,display_name) or text",
    "audio_column": "column of the paths or the audio",
    "label_column": "column of the labels",
    "split_column": "column that names each row's split",
    "label_separator": "separator between the labels of one clip in a table",
    "test_fold": "fold to use as the test split, of data with a column of folds",
    "fold_column": "column of the folds",
    "window_seconds": "cut recordings whose labels have times into windows of this length",
    "window_hop_seconds": "seconds from window to window (default: the window)",
    "empty_windows": "share of the windows without a label that are kept, 0..1 (default: 1)",
    "min_overlap": "share of a sound that must be in a window for its label to count, 0..1 (default: 0, any)",
    "window_labels": "labels of a window: overlap (default), or centre for those at its middle",
    "recordings": "table of all recordings, also of those without labels",
    "clip_boundaries": "read columns start and end as seconds within the file: true (default) or false",
}


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    for name, text in _READING.items():
        choices = _CHOICES.get(name)
        kind = float if name in _NUMBERS else str
        parser.add_argument(f"--{name}", help=text, choices=choices, type=kind)


def reading_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `load_audio_dataset` that the command line sets."""
    values = {name: getattr(options, name) for name in _READING}
    arguments = {name: value for name, value in values.items() if value is not None}
    if "clip_boundaries" in arguments:
        arguments["clip_boundaries"] = _BOOLEANS[arguments["clip_boundaries"]]
    return arguments
