"""Output of `ast-hf classify`: lines of text, pictures, and the last line with the counts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ..errors import AstDataError
from ..printing import printable, visible
from .console import EXIT_DATA, complain

if TYPE_CHECKING:
    from ..batch.journal import Entry


def report(entry: Entry, kind: str, *, is_text: bool, width: int = 0) -> None:
    """Print the text of a recording, if it is wanted, and its problem.

    A line has the columns file, start and end of windows and events, score, label. Tabs separate them in a pipe and
    in a file, and spaces on a terminal, where names are padded to `width` characters.
    """
    from tqdm.auto import tqdm

    if is_text:
        on_terminal = sys.stdout.isatty()
        for cells in _lines(entry, kind):
            row = [printable(entry.name), *cells]
            text = aligned(row, width) if on_terminal else "\t".join(row)
            tqdm.write(text, file=sys.stdout)
        if entry.content == []:
            found = "events" if kind == "events" else "labels"
            tqdm.write(f"{printable(entry.name)}: no {found}", file=sys.stderr)
    if entry.problem is not None:
        tqdm.write(visible(" ".join(entry.problem.split())), file=sys.stderr)


def aligned(row: Sequence[str], width: int) -> str:
    """Return a line for a terminal: the name padded to `width` characters, numbers to the right, the label last."""
    name, *numbers, label = row
    return "  ".join([f"{name:{width}}", *(f"{number:>8}" for number in numbers), label])


def _lines(entry: Entry, kind: str) -> list[list[str]]:
    """Return the cells behind the name in each line of a recording's text: times, score, label."""
    if entry.content is None:
        return []
    if kind == "clips":
        return [_scored(part) for part in entry.content]
    if kind == "windows":
        return [[*_times(part), *_scored(label)] for part in entry.content for label in part["scores"]]
    return [[*_times(event), *_scored(event)] for event in entry.content]


def _times(part: dict[str, Any]) -> list[str]:
    return [f"{part['start']:.2f}", f"{part['end']:.2f}"]


def _scored(part: dict[str, Any]) -> list[str]:
    return [f"{part['score']:.3f}", printable(part["label"])]


def print_formatted(
    entries: Sequence[Entry], format: str, kind: str, top_hertz: float, stream: TextIO | None = None
) -> None:
    """Print the results of recordings in one of `timelines.formats.FORMATS`; on `stream`, or standard output."""
    from ..timelines.formats import results_text
    from ..timelines.results import Result

    results = [
        Result(entry.name, kind, entry.content, top_hertz) for entry in entries if entry.content is not None
    ]
    print(results_text(results, format, kind), end="", file=stream)


def summarise(entries: Sequence[Entry], *, is_stored: bool, placement: str = "") -> int:
    """Print what could not be classified, and where the model was unless it is empty; return the exit code."""
    failed = sum(entry.content is None for entry in entries)
    partly = sum(entry.content is not None and not entry.is_complete for entry in entries)
    if len(entries) > 1 or failed or partly or placement:
        seconds = sum(entry.seconds for entry in entries)
        parts = [f"{len(entries) - failed - partly} classified ({seconds / 60:.1f} min of audio)"]
        parts += [f"{partly} only in part"] if partly else []
        parts += [f"{failed} not"] if failed else []
        parts += [placement] if placement else []
        advice = "; --resume tries these again" if is_stored and (failed or partly) else ""
        plural = "s" if len(entries) > 1 else ""
        complain(f"{len(entries)} recording{plural}: {', '.join(parts)}{advice}")
    return EXIT_DATA if failed or partly else 0


class Pictures:
    """Pictures of a batch: a file for one recording, or a folder for several.

    Args:
        place: file or folder; None for no pictures.
        recordings: names of the recordings.
        rate: sampling rate of the model in Hz.
    """

    def __init__(self, place: str | None, recordings: Sequence[str], rate: int) -> None:
        self._paths: dict[str, Path] = {}
        self._rate = rate
        self._drawn: set[str] = set()
        if place is not None and len(recordings) == 1:
            self._paths = {recordings[0]: Path(place)}
        elif place is not None:
            from ..batch.result_files import file_names

            names = file_names(recordings, ".png")
            self._paths = {name: Path(place, file) for name, file in zip(recordings, names, strict=True)}

    def draw(self, entry: Entry) -> None:
        """Draw the picture of a recording; one whose file was removed in the meantime is reported."""
        if entry.content is None or not self._paths:
            return
        from ..reports.timeline_picture import draw_timeline
        from ..timelines.events import Event

        self._drawn.add(entry.name)
        path = self._paths[entry.name]
        path.parent.mkdir(parents=True, exist_ok=True)
        events = [Event(**event) for event in entry.content]
        try:
            draw_timeline(entry.name, events, path, sampling_rate=self._rate)
        except AstDataError as problem:
            complain(problem)

    def draw_missing(self, entry: Entry) -> None:
        """Draw the picture of a recording from the journal, unless it is there."""
        if entry.name not in self._drawn and self._paths and not self._paths[entry.name].exists():
            self.draw(entry)
