"""Pre-flight of a run: all clips are checked before training; bad ones stop it or are skipped."""

from __future__ import annotations

import statistics
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from datasets import DatasetDict, IterableDatasetDict

from ..data.clip_digests import ClipSounds, combine
from ..data.duplicates import ClipPlace, DuplicateFinder
from ..data.splits import label_lists, label_names
from ..errors import AstHfWarning, error, warning_text
from ..inputs.clip_checks import (
    UNREADABLE_FILE,
    BadClip,
    CheckedClip,
    SplitCheck,
    check_headers,
    decode_all,
    name_first,
    refuse,
    where_listed,
    write_clips,
)
from ..recipe.options import DataOptions
from .prepared_file import PreparedFile

#: In the output folder: the clips that were skipped, one JSON object a line.
SKIPPED_FILE = "skipped_clips.jsonl"

#: Share of the sound of a split that the model has to hear; below it, W201 warns.
_HEARD = 0.6
#: How many skipped clips results.json lists.
_LISTED = 100
#: What a user sets to leave bad clips out.
_SKIPPING = "data.on_error=skip (--set)"


@dataclass
class Preflight:
    """Check of a run's clips; call it with the splits as they were read, before any are held out.

    Attributes:
        options: `check`, `on_error` and `max_skipped_fraction` count.
        sampling_rate: of the model, in Hz.
        folder: output folder, for lists of clips.
        prepared: what an earlier start of the run found out.
        window: seconds that the model hears of a clip; None to leave this unchecked.
        cropped: split whose clips are cropped at random, so that all of them is heard in time.
        processes: number of processes of the run, all of which must check the clips.
        is_main: this process warns, and writes the lists.
        disable_tqdm: show no progress bar; None shows one on a terminal only.

    After the call:
        findings: what was found, plain values for results.json.
        sounds: split -> its clips that can be used.
    """

    options: DataOptions
    sampling_rate: int
    folder: Path
    prepared: PreparedFile
    window: float | None = None
    cropped: str | None = None
    processes: int = 1
    is_main: bool = True
    disable_tqdm: bool | None = None
    findings: dict[str, Any] = field(default_factory=dict)
    sounds: dict[str, ClipSounds] = field(default_factory=dict)
    _skipped: list[BadClip] = field(default_factory=list)

    def __call__(
        self, splits: DatasetDict | IterableDatasetDict, names: Iterable[str]
    ) -> DatasetDict | IterableDatasetDict:
        """Return the splits without the clips that are skipped; streams are returned unchecked.

        Args:
            splits: as `load_audio_dataset` returns them.
            names: the splits to check; those that do not exist are left out.

        Raises:
            AstDataError: the error of the first clip that cannot be used, with the others, unless they are
                skipped; E210 if too many would be.
        """
        if not isinstance(splits, DatasetDict):
            return splits
        checks = {
            name: check_headers(name, splits[name], self.sampling_rate, disable_tqdm=self.disable_tqdm)
            for name in names
            if name in splits
        }
        if self.options.check == "full" or self.options.on_error == "skip":
            self._decode(splits, checks)
        bad = self._of_all_processes([clip for check in checks.values() for clip in check.bad], list(checks))
        clips = {name: len(check.clips) for name, check in checks.items()}
        self._judge(bad, clips)
        kept = {name: _kept(name, check, bad) for name, check in checks.items()}
        self._note_sounds(checks, kept)
        self._find_problems(splits, checks, kept)
        changed = {
            name: splits[name].select(rows) for name, rows in kept.items() if len(rows) < len(splits[name])
        }
        return DatasetDict({**splits, **changed})

    def _decode(self, splits: DatasetDict, checks: dict[str, SplitCheck]) -> None:
        """Decode all clips, unless the output folder says what an earlier start of the run found."""
        sounds = {
            name: combine([clip.digest.identity for clip in check.clips]) for name, check in checks.items()
        }
        conditions = [self.sampling_rate, sounds]
        stored = self.prepared.read("cannot be decoded", conditions)
        if stored is None:
            for name, check in checks.items():
                rate = self.sampling_rate
                decode_all(name, splits[name], rate, check, disable_tqdm=self.disable_tqdm)
            stored = [asdict(clip) for check in checks.values() for clip in check.bad]
        self.prepared.keep("cannot be decoded", conditions, stored)
        for name, check in checks.items():
            known = {clip.row for clip in check.bad}
            found = (BadClip(**clip) for clip in stored if clip["split"] == name)
            check.bad += [clip for clip in found if clip.row not in known]
            check.bad.sort(key=lambda clip: clip.row)

    def _of_all_processes(self, bad: list[BadClip], names: list[str]) -> list[BadClip]:
        """Return the bad clips of every process: a file may be damaged on one machine only."""
        if self.processes == 1:
            return bad
        from accelerate.utils import gather_object

        by_row = {(clip.split, clip.row): clip for clip in reversed(gather_object(bad))}
        return sorted(by_row.values(), key=lambda clip: (names.index(clip.split), clip.row))

    def _judge(self, bad: list[BadClip], clips: dict[str, int]) -> None:
        """Raise the error of bad clips, or note that they are skipped."""
        total = sum(clips.values())
        skips = self.options.on_error == "skip"
        if bad and not skips:
            raise refuse(bad, total, self.folder, skipping=_SKIPPING)
        if len(bad) > self.options.max_skipped_fraction * total:
            raise self._too_many(bad, total)
        counts = Counter(clip.split for clip in bad)
        self.findings["skipped"] = {name: counts[name] for name in clips if counts[name]}
        self.findings["skipped_clips"] = [
            {**clip.to_dict(), "path": Path(clip.path).name} for clip in bad[:_LISTED]
        ]
        self._skipped = bad
        if bad and self.is_main:
            shares = ", ".join(f"{name} {counts[name]} of {clips[name]}" for name in clips if counts[name])
            what = f"{len(bad)} clips cannot be used and are left out ({shares})"
            listed = f"{str(self.folder / SKIPPED_FILE)!r} lists them"
            _warn("W214", "data", f"{what}; {listed}, the first is {bad[0]}")

    def _too_many(self, bad: list[BadClip], total: int) -> Exception:
        allowed = self.options.max_skipped_fraction
        share = f"{len(bad)} of {total} clips cannot be used ({len(bad) / total:.2%})"
        what = f"{share}, and data.max_skipped_fraction allows {allowed:.2%}: {name_first(bad)}"
        fix = "repair or remove them, or raise data.max_skipped_fraction"
        return error("E210", where="data", what=what, fix=fix + where_listed(bad, self.folder))

    def write_lists(self) -> None:
        """Write the list of skipped clips into the output folder, or remove that of an older run.

        Raises E401 if the list of skipped clips cannot be written.
        """
        for stale in (SKIPPED_FILE, UNREADABLE_FILE):
            with suppress(OSError):
                (self.folder / stale).unlink(missing_ok=True)
        path = self.folder / SKIPPED_FILE
        if self._skipped:
            write_clips(path, self._skipped)

    def _note_sounds(self, checks: dict[str, SplitCheck], kept: dict[str, list[int]]) -> None:
        for name, rows in kept.items():
            clips = [checks[name].clips[row] for row in rows]
            paths = [clip.path for clip in clips]
            self.sounds[name] = ClipSounds(name, rows, paths, [clip.digest.identity for clip in clips])

    def _find_problems(
        self, splits: DatasetDict, checks: dict[str, SplitCheck], kept: dict[str, list[int]]
    ) -> None:
        """Find clips that are shared, contradict each other, or are much longer than the model hears."""
        shared, contradictory = _repeated(splits, checks, kept)
        self.findings["shared"] = len(shared)
        self.findings["contradictory"] = len(contradictory)
        self.findings["heard"] = {}
        if self.is_main and shared:
            what = f"clips that are in several splits inflate the results on them: {len(shared)}"
            _warn("W215", "data", f"{what}, the first is {shared[0]}; `ast-hf stats DATA` lists them")
        if self.is_main and contradictory:
            what = f"clips that are there several times have different labels: {len(contradictory)}"
            _warn("W215", "data", f"{what}, the first is {contradictory[0]}; `ast-hf stats DATA` lists them")
        for name, rows in kept.items():
            self._measure_heard(name, [checks[name].clips[row] for row in rows])

    def _measure_heard(self, name: str, clips: Sequence[CheckedClip]) -> None:
        """Note which share of a split's sound the model hears; warn (W201) if it is small."""
        if self.window is None or not clips or name == self.cropped:
            return
        window = self.window
        seconds = [clip.seconds for clip in clips]
        share = sum(min(length, window) for length in seconds) / sum(seconds)
        self.findings["heard"][name] = round(share, 4)
        if self.is_main and share < _HEARD:
            typical = statistics.median(seconds)
            what = (
                f"the model hears the first {window:.2f} s of each clip, and half of them last {typical:.2f} s or "
                f"more: {1 - share:.0%} of the sound is not used; raise model.config.max_length, or cut the clips"
            )
            _warn("W201", f"split {name!r}", what)


def _kept(name: str, check: SplitCheck, bad: Sequence[BadClip]) -> list[int]:
    """Return the numbers, from 0, of the clips of a split that are not bad."""
    dropped = {clip.row - 1 for clip in bad if clip.split == name}
    return [row for row in range(len(check.clips)) if row not in dropped]


def _repeated(
    splits: DatasetDict, checks: dict[str, SplitCheck], kept: dict[str, list[int]]
) -> tuple[list[str], list[str]]:
    """Return the clips in several splits, and those whose labels contradict each other, in words."""
    finder = DuplicateFinder()
    for name, rows in kept.items():
        names = label_names(splits[name])
        labels = label_lists(splits[name])
        for row in rows:
            clip = checks[name].clips[row]
            tags = tuple(sorted(names[index] for index in labels[row]))
            finder.add(ClipPlace(name, row + 1, clip.path, tags), clip.stretch, clip.digest.sound)
    across = finder.duplicates()
    shared = [
        _equal([(split, f"{split} row {row} {path!r}") for split, row, path in group.clips])
        for group in across
    ]
    contradictory = [
        _equal(
            [
                (labels, f"{split} row {row} {path!r} ({', '.join(map(repr, labels))})")
                for (row, path), labels in zip(group.clips, group.labels, strict=True)
            ]
        )
        for split, groups in finder.repetitions().items()
        for group in groups
        if group.contradictory
    ]
    contradictory += [text for text, group in zip(shared, across, strict=True) if group.contradictory]
    return shared, contradictory


def _equal(clips: Sequence[tuple[Any, str]]) -> str:
    """Return two clips of a group that are the same, with different keys: (split or labels, name) of each."""
    first_key, first = clips[0]
    other = next(name for key, name in clips if key != first_key)
    more = f" and {len(clips) - 2} more" if len(clips) > 2 else ""
    return f"{first} = {other}{more}"


def _warn(code: str, where: str, what: str) -> None:
    warnings.warn(warning_text(code, where=where, what=what), AstHfWarning, stacklevel=4)
