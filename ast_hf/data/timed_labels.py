"""Labels with times as the reference that timelines are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import NamedTuple

from ..errors import did_you_mean, error
from ..timelines.events import Event
from .naming_conventions import SPLIT_NAMES, Source
from .reading_arguments import check_arguments
from .reading_options import ReadingOptions
from .timed_recordings import Placed, Recording, read_recordings

#: Seconds by which two sounds of one label may overlap since their times were rounded; the later one is cut.
ROUNDING = 0.01


class TimedRecording(NamedTuple):
    """Recording with its labels.

    Attributes:
        seconds: its length, from the header of the file.
        events: labelled sounds by start, within 0..`seconds`; those of one label do not overlap. Empty for a
            recording in which nothing is labelled.
        split: its split, `"train"` where nothing names one.
    """

    seconds: float
    events: list[Event]
    split: str = "train"


def load_timed_labels(
    source: Source,
    *,
    split: str | None = None,
    recordings: str | PathLike | None = None,
    audio_column: str | None = None,
    label_column: str | None = None,
    split_column: str = "split",
    label_separator: str | None = None,
    class_labels: str | PathLike | Sequence[str] | None = None,
    drop_labels: Sequence[str] = (),
    test_fold: int | str | None = None,
    fold_column: str = "fold",
    split_lists: Mapping[str, str | PathLike] | None = None,
    audio_root: str | PathLike | None = None,
    merge_overlaps: bool = False,
) -> dict[str, TimedRecording]:
    """Read labels with times of recordings.

    Args:
        source: a table (CSV, TSV, JSON, JSONL, Parquet) with a row for each labelled sound: the path of the
            recording, `start` and `end` in seconds (or `onset` and `offset`, `begin`, `Begin Time (s)`, or a
            `duration` in place of the end), and the label. A row with a path alone is a recording without
            sounds. Or a folder of recordings with label files beside them: Audacity's (`rec.txt` for `rec.wav`)
            or Raven's (`rec.selections.txt`, `rec.Table.1.selections.txt`). A list of those, or a mapping from
            splits to one or more of those.
        split: return the recordings of this split only; None for all.
        recordings: a table with a row for each recording, with its path and, if any, its split or fold. Those
            without labels are recordings without sounds. None if the labels name all recordings.
        audio_column: column of the paths; None to detect it by its name.
        label_column: column of the labels; None to detect it by its name.
        split_column: column of each recording's split, in either table; without it all are `"train"`.
        label_separator: separator of several labels in one cell.
        class_labels: the classes, as for `load_audio_dataset`; labels are given by their names. None for any.
        drop_labels: labels to leave out.
        test_fold: the fold that becomes the split `"test"`, the others `"train"`; None to split otherwise.
        fold_column: column of each recording's fold, in either table.
        split_lists: split -> text file of the paths of its recordings, one a line.
        audio_root: folder that paths are relative to; None for that of their table.
        merge_overlaps: make one event of sounds of one label that overlap, instead of E208.

    Returns:
        Absolute path of each recording -> its length, events and split.

    Raises:
        AstDataError: E206 for missing files. E208 for columns; for labels and times that cannot be read; for
            times after the end of the recording (an end up to 0.1 s after it is the end, since tables round);
            for sounds of one label that overlap by more than 10 ms; for a recording in two splits. E209 for a
            source or a split without recordings. Each names the table, row and column.
        AstInputError: E108 for arguments of a wrong type; E201-E207 for recordings whose header is damaged.
    """
    check_arguments(locals())
    options = ReadingOptions.of(locals())
    found = read_recordings(source, options).recordings
    if split is not None:
        found = _of_split(found, split)
    return {
        recording.path: _reference(recording, options.labels.dropped, merges=merge_overlaps)
        for recording in found
    }


def _of_split(recordings: Sequence[Recording], split: str) -> list[Recording]:
    """Return the recordings of a split; raise E209 if there are none."""
    name = SPLIT_NAMES.get(split.lower(), split)
    found = [recording for recording in recordings if recording.split == name]
    if not found:
        fix = did_you_mean(split, sorted({recording.split for recording in recordings}))
        raise error("E209", where=f"split {split!r}", what="has no recordings", fix=fix)
    return found


def _reference(recording: Recording, dropped: frozenset[str], *, merges: bool) -> TimedRecording:
    assert recording.header is not None, "files are checked"
    sounds = [sound for sound in recording.sounds if sound.event.label not in dropped]
    if not merges:
        sounds = without_overlaps(sounds, recording.name)
    return TimedRecording(
        recording.header.seconds, merged([sound.event for sound in sounds]), recording.split
    )


def merged(events: Sequence[Event]) -> list[Event]:
    """Return events sorted by start, with those of one label that overlap joined; those that touch stay two."""
    joined: list[Event] = []
    last: dict[str, int] = {}  # label -> place of its last event
    for event in sorted(events):
        place = last.get(event.label)
        if place is not None and event.start < joined[place].end:
            joined[place] = joined[place]._replace(end=max(joined[place].end, event.end))
        else:
            last[event.label] = len(joined)
            joined.append(event)
    return joined


def without_overlaps(sounds: Sequence[Placed], name: str) -> list[Placed]:
    """Return sounds, sorted by start, of which those of one label do not overlap.

    An overlap of up to `ROUNDING` seconds is cut from the later sound. Raises E208 for a longer one, and for
    a sound within another.
    """
    last: dict[str, Placed] = {}
    separate = []
    for sound in sounds:
        event, where = sound
        before = last.get(event.label)
        if before is not None and event.start < before.event.end:
            overlap = before.event.end - event.start
            if overlap > ROUNDING or event.end <= before.event.end:
                what = f"{event.label!r} from {event.start:g} to {event.end:g} s of {name!r} overlaps the same label "
                what += f"from {before.event.start:g} to {before.event.end:g} s ({before.where})"
                fix = "correct the times, or make one event of both with merge_overlaps=True"
                raise error("E208", where=where, what=what, fix=fix)
            sound = Placed(event._replace(start=before.event.end), where)
        last[event.label] = sound
        separate.append(sound)
    return separate
