"""Pre-flight of a run: all clips are checked before training; bad ones stop it or are skipped."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from datasets import DatasetDict, IterableDatasetDict

from ..data.clip_digests import ClipSounds, combine
from ..errors import AstHfWarning, error, warning_text
from ..inputs.clip_checks import (
    UNREADABLE_FILE,
    BadClip,
    SplitCheck,
    check_headers,
    decode_all,
    name_first,
    refuse,
    where_listed,
    write_clips,
)
from ..inputs.suspicious_clips import SuspiciousClips
from ..recipe.options import DataOptions
from .prepared_file import PreparedFile

#: In the output folder: the clips that were skipped, one JSON object a line.
SKIPPED_FILE = "skipped_clips.jsonl"

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
        suspicious: finds clips that make results doubtful.
        reads_all: digests cover all of a large file, not only pieces of it; for clips that are decoded anyway.
        processes: number of processes of the run, all of which must check the clips.
        is_main: this process warns, and writes the lists.
        disable_tqdm: show no progress; None and False show it, see `progress.progress_bar`.
        writes: lists of clips are written into `folder`.

    After the call:
        unusable: the clips that cannot be used, also if an error was raised.
        findings: what was found, plain values for results.json.
        sounds: split -> its clips that can be used.
    """

    options: DataOptions
    sampling_rate: int
    folder: Path
    prepared: PreparedFile
    suspicious: SuspiciousClips = field(default_factory=SuspiciousClips)
    reads_all: bool = False
    processes: int = 1
    is_main: bool = True
    disable_tqdm: bool | None = None
    writes: bool = True
    findings: dict[str, Any] = field(default_factory=dict)
    unusable: list[BadClip] = field(default_factory=list)
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
            name: check_headers(
                name,
                splits[name],
                self.sampling_rate,
                reads_all=self.reads_all,
                disable_tqdm=self.disable_tqdm,
            )
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
        for name, rows in kept.items():
            self.suspicious.add(name, splits[name], checks[name], rows)
        changed = {
            name: splits[name].select(rows) for name, rows in kept.items() if len(rows) < len(splits[name])
        }
        return DatasetDict({**splits, **changed})

    def divide(self, name: str, parts: Mapping[str, Sequence[int]]) -> None:
        """Note the parts of a checked split that clips were held out of: numbers of its clips, from 0."""
        self.suspicious.divide(name, parts)
        held_out = {part: len(rows) for part, rows in parts.items() if part != "train"}
        self.findings["held_out"] = {**self.findings.get("held_out", {}), **held_out}

    def find_suspicious(self) -> None:
        """Warn of clips that splits share, that contradict each other, or that are much too long."""
        self.findings |= self.suspicious.find(is_main=self.is_main)

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
        self.unusable[:] = bad
        skips = self.options.on_error == "skip"
        if bad and not skips:
            raise refuse(bad, total, self.folder if self.writes else None, skipping=_SKIPPING)
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
            are = "clip cannot be used and is" if len(bad) == 1 else "clips cannot be used and are"
            what = f"{len(bad)} {are} left out ({shares})"
            listed = f"{str(self.folder / SKIPPED_FILE)!r} lists them, " if self.writes else ""
            _warn("W214", "data", f"{what}; {listed}the first is {bad[0]}")

    def _too_many(self, bad: list[BadClip], total: int) -> Exception:
        allowed = self.options.max_skipped_fraction
        share = f"{len(bad)} of {total} clips cannot be used ({len(bad) / total:.2%})"
        what = f"{share}, and data.max_skipped_fraction allows {allowed:.2%}: {name_first(bad)}"
        fix = "repair or remove them, or raise data.max_skipped_fraction"
        return error(
            "E210", where="data", what=what, fix=fix + where_listed(bad, self.folder if self.writes else None)
        )

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
        self.findings["content"] = {name: combine(clips.identities) for name, clips in self.sounds.items()}


def _kept(name: str, check: SplitCheck, bad: Sequence[BadClip]) -> list[int]:
    """Return the numbers, from 0, of the clips of a split that are not bad."""
    dropped = {clip.row - 1 for clip in bad if clip.split == name}
    return [row for row in range(len(check.clips)) if row not in dropped]


def _warn(code: str, where: str, what: str) -> None:
    warnings.warn(warning_text(code, where=where, what=what), AstHfWarning, stacklevel=4)
