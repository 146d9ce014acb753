"""Report on a data set: mean and std of its log-mel values, labels, lengths, damaged and repeated clips."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset

from ..audio import load_audio, resample
from ..errors import AstHfError, error
from ..feature_extraction_ast import ASTFeatureExtractor, level_problems
from ..log_mel import frames_to_seconds, log_mel, num_frames, num_samples
from ..printing import printable
from ..progress import progress_bar
from ..running_moments import Moments
from ..task import Task
from .audio_headers import read_header
from .duplicates import ClipPlace, Duplicate, DuplicateFinder, Repetition, digest_samples, file_stretch
from .long_clips import CutSound, is_cut, measure_cut
from .naming_conventions import RECORDING, Row
from .splits import label_names, split_task

#: Full scale, with a tolerance of one step of 16 bits. A sample counts as clipped if a sample next to it is
#: also at the same end of the scale, which the peak of a normalised clip touches only once.
FULL_SCALE = 1.0 - 2.0**-15

#: Minimum share of clipped samples of a clipped file, and maximum peak of a silent one (-80 dB).
CLIPPED_SHARE = 1e-3
SILENT_PEAK = 1e-4

#: Entries printed of each list, and clips printed of each repetition; the JSON report has all of them.
_MAX_ENTRIES = 10
_MAX_CLIPS = 4

#: Percentiles of the clips' lengths.
_PERCENTILES = (5, 25, 75, 95)

#: Kind of duplicate -> its title.
_KINDS = {"path": "same file", "content": "same audio"}


@dataclass
class Finding:
    """A clip that needs attention.

    Attributes:
        row: its row in its split, from 1.
        path: its file, or the name of its embedded audio.
        what: the problem.
        code: code of the error, `""` if it can be read.
    """

    row: int
    path: str
    what: str
    code: str = ""


@dataclass
class SplitReport:
    """Contents of one split.

    Attributes:
        clips: number of rows.
        labels: label -> number of its clips, in the order of the classes.
        label_seconds: label -> seconds of its readable clips; those of windows that overlap count twice.
        unlabelled: number of clips without a label.
        recordings: number of recordings that the clips are windows of; 0 for clips of no windows.
        seconds: length of the readable clips: `min`, `median`, `max`, `total`.
        rates: sampling rate in Hz, as text -> number of files.
        channels: number of channels, as text -> number of files.
        clipped: files with a share of at least `CLIPPED_SHARE` clipped samples (see `FULL_SCALE`), after
            mixing to mono.
        silent: files that never exceed `SILENT_PEAK`.
        quantiles: lengths in seconds below which 5%, 25%, 75% and 95% of the readable clips are.
        cut: for each window (see `describe_data`), the clips and seconds that are longer than it.
        long: clips of which the model's input leaves out 0.1 s or more, with their length.
        unreadable: files that would stop training, also clips that are too short, with the reason.
        repeated: clips that occur more than once. Different stretches of one file are different clips.
    """

    clips: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    label_seconds: dict[str, float] = field(default_factory=dict)
    unlabelled: int = 0
    recordings: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    quantiles: dict[str, float] = field(default_factory=dict)
    cut: list[dict[str, int | float]] = field(default_factory=list)
    rates: dict[str, int] = field(default_factory=dict)
    channels: dict[str, int] = field(default_factory=dict)
    clipped: list[Finding] = field(default_factory=list)
    silent: list[Finding] = field(default_factory=list)
    long: list[Finding] = field(default_factory=list)
    unreadable: list[Finding] = field(default_factory=list)
    repeated: list[Repetition] = field(default_factory=list)


@dataclass
class DataReport:
    """Results of `describe_data`.

    Attributes:
        mean: mean of the training split's raw log-mel values; None if none of its clips can be read.
        std: their standard deviation.
        train_split: the split on which mean and std are measured.
        sampling_rate: sampling rate of the model in Hz.
        num_mel_bins: mel bands of the model's input.
        max_length: frames of the model's input.
        splits: split -> its contents.
        duplicates: clips that are in several splits, which inflates results on them.
    """

    mean: float | None
    std: float | None
    train_split: str
    sampling_rate: int
    num_mel_bins: int
    max_length: int
    splits: dict[str, SplitReport]
    duplicates: list[Duplicate]

    @property
    def unreadable(self) -> list[Finding]:
        """Unreadable files of all splits."""
        return [finding for split in self.splits.values() for finding in split.unreadable]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """Yield the report as lines of text; long lists are cut, with the number of entries left out."""
        if self.mean is not None:
            yield f"mean {self.mean:.7g}  std {self.std:.7g}  of raw log-mel values ({printable(self.train_split)})"
        for name, split in self.splits.items():
            yield from _split_lines(name, split)
        for kind, title in _KINDS.items():
            groups = [duplicate.clips for duplicate in self.duplicates if duplicate.kind == kind]
            lines = [
                "  =  ".join(f"{printable(split)} row {row} {printable(path)}" for split, row, path in clips)
                for clips in groups
            ]
            yield from _titled_list(f"{title} in several splits", lines)


def describe_data(
    splits: Mapping[str, Dataset | IterableDataset],
    sampling_rate: int = 16_000,
    *,
    train_split: str = "train",
    num_mel_bins: int = 128,
    max_length: int = 1024,
    windows: Sequence[int] | None = None,
) -> DataReport:
    """Read every clip once, and report statistics and problems of a data set.

    Args:
        splits: splits of `load_audio_dataset`, stored or streamed; with `check_files=False` there, missing
            files are listed in the report.
        sampling_rate: sampling rate of the model in Hz.
        train_split: split on which mean and std are measured, as by `measure_statistics`.
        num_mel_bins: mel bands of the model's input.
        max_length: frames of the model's input.
        windows: lengths of inputs, in frames, to report what each would leave out; None for `max_length` alone.

    Returns:
        The report. It lists unreadable files, which raise no error.

    Raises:
        AstDataError: E209 if the training split does not exist.
    """
    if train_split not in splits:
        what = f"{train_split!r} does not exist, the splits are {', '.join(splits)}"
        raise error("E209", where="train_split", what=what, fix="name one of them")
    extractor = ASTFeatureExtractor(
        sampling_rate=sampling_rate, num_mel_bins=num_mel_bins, max_length=max_length
    )
    moments = Moments()
    finder = DuplicateFinder()
    reports = {}
    for name, split in splits.items():
        audit = _SplitAudit(
            name,
            split,
            extractor,
            moments if name == train_split else None,
            finder,
            [frames_to_seconds(frames) for frames in windows or (max_length,)],
        )
        reports[name] = audit.run(
            progress_bar(split, desc=f"reading {printable(name)}", unit="clip", leave=False)
        )
    for name, repetitions in finder.repetitions().items():
        reports[name].repeated = repetitions
    return DataReport(
        mean=moments.mean if moments.count else None,
        std=moments.std if moments.count else None,
        train_split=train_split,
        sampling_rate=sampling_rate,
        num_mel_bins=num_mel_bins,
        max_length=max_length,
        splits=reports,
        duplicates=finder.duplicates(),
    )


def _model_frames(waveform: np.ndarray, extractor: ASTFeatureExtractor) -> np.ndarray:
    """Return raw log-mel `(frames, mel)` of the part of a clip that the model sees, without padding."""
    seen = waveform[: num_samples(extractor.max_length, extractor.sampling_rate)]
    return log_mel(torch.from_numpy(seen), extractor.sampling_rate, extractor.num_mel_bins).numpy()


@dataclass
class _SplitAudit:
    """One pass over a split, and its report."""

    name: str
    split: Dataset | IterableDataset
    extractor: ASTFeatureExtractor
    moments: Moments | None
    finder: DuplicateFinder
    windows: list[float]

    def __post_init__(self) -> None:
        self.class_names = label_names(self.split)
        self.task = split_task(self.split)
        self.report = SplitReport()
        self.labels = Counter[int]()
        self.label_seconds: dict[int, list[float]] = {}
        self.recordings: set[str] = set()
        self.seconds: list[float] = []
        self.rates = Counter[str]()
        self.channels = Counter[str]()

    def run(self, rows: Iterable[Row]) -> SplitReport:
        """Read all rows, and return the report."""
        for number, row in enumerate(rows, start=1):
            self.report.clips += 1
            self._count(row)
            path = row["audio"].get("path") or "embedded audio"
            try:
                self._read(number, row, path)
            except AstHfError as problem:
                self.report.unreadable.append(Finding(number, path, problem.what, problem.code))
        names = list(enumerate(self.class_names))
        self.report.labels = {name: self.labels[index] for index, name in names}
        self.report.label_seconds = {
            name: math.fsum(self.label_seconds.get(index, ())) for index, name in names
        }
        self.report.recordings = len(self.recordings)
        self.report.rates = dict(self.rates.most_common())
        self.report.channels = dict(self.channels.most_common())
        if self.seconds:
            self.report.seconds = {
                "min": float(min(self.seconds)),
                "median": float(statistics.median(self.seconds)),
                "max": float(max(self.seconds)),
                "total": math.fsum(self.seconds),
            }
            self.report.quantiles = {
                f"{percent}%": float(np.percentile(self.seconds, percent)) for percent in _PERCENTILES
            }
            self.report.cut = [measure_cut(self.seconds, window).to_dict() for window in self.windows]
        return self.report

    def _count(self, row: Row) -> None:
        """Count the labels of a row, and its recording."""
        indices = self._indices(row)
        self.labels.update(indices)
        self.report.unlabelled += not indices
        if row.get(RECORDING) is not None:
            self.recordings.add(row["audio"].get("path") or row[RECORDING])

    def _indices(self, row: Row) -> list[int]:
        labels = row[self.task.label_column]
        return labels if self.task is Task.MULTI_LABEL else [labels]

    def _read(self, number: int, row: Row, path: str) -> None:
        """Add a clip to the report; raise the error of one that training would refuse."""
        header = read_header(row["audio"])
        rate = header.rate
        samples = load_audio(row["audio"], rate, start=row.get("start"), end=row.get("end"))
        waveform = resample(samples, rate, self.extractor.sampling_rate)
        if not num_frames(len(waveform), self.extractor.sampling_rate):
            what = f"too short, {len(samples) / rate:.3f} s"
            raise error("E103", where="clip", what=what, fix="remove it, or record at least 25 ms")
        level_problems(torch.from_numpy(waveform), "clip")
        seconds = len(samples) / rate
        self.seconds.append(seconds)
        for index in self._indices(row):
            self.label_seconds.setdefault(index, []).append(seconds)
        if is_cut(seconds, frames_to_seconds(self.extractor.max_length)):
            self.report.long.append(Finding(number, path, f"{seconds:.2f} s"))
        self.rates[str(rate)] += 1
        self.channels[str(header.channels)] += 1
        peak = float(np.abs(samples).max())
        share = clipped_share(samples)
        if peak <= SILENT_PEAK:
            self.report.silent.append(Finding(number, path, f"peak {peak:.2g}"))
        if share >= CLIPPED_SHARE:
            self.report.clipped.append(Finding(number, path, f"{share:.1%} of the samples"))
        if self.moments is not None:
            self.moments.add(_model_frames(waveform, self.extractor))
        labels = tuple(sorted(self.class_names[index] for index in self._indices(row)))
        place = ClipPlace(self.name, number, path, labels)
        self.finder.add(
            place, file_stretch(row), digest_samples(samples, rate) if peak > SILENT_PEAK else None
        )


def clipped_share(samples: np.ndarray) -> float:
    """Return the share of samples `(time,)` at `FULL_SCALE` next to another one at the same end."""
    count = 0
    for at_end in (samples >= FULL_SCALE, samples <= -FULL_SCALE):
        neighbours = np.zeros_like(at_end)
        neighbours[1:] |= at_end[:-1]
        neighbours[:-1] |= at_end[1:]
        count += int((at_end & neighbours).sum())
    return count / len(samples)


def _split_lines(name: str, split: SplitReport) -> Iterator[str]:
    yield f"\n{printable(name)}: {split.clips} {_kind(split)}"
    if split.seconds:
        lengths = ", ".join(f"{measure} {seconds:.2f} s" for measure, seconds in split.seconds.items())
        yield f"  length    {lengths}"
        shares = ", ".join(f"{share} {seconds:.2f} s" for share, seconds in split.quantiles.items())
        yield f"  quantiles {shares}"
        for values in split.cut:
            yield f"  cut       an input of {values['window']:.2f} s: {CutSound(**values)}"  # type: ignore[arg-type]
        yield "  rates     " + ", ".join(f"{count} x {rate} Hz" for rate, count in split.rates.items())
        yield "  channels  " + ", ".join(f"{count} x {number}" for number, count in split.channels.items())
    if split.unlabelled:
        yield f"  no label  {split.unlabelled} ({split.unlabelled / split.clips:.1%})"
    counts = sorted(split.labels.items(), key=lambda item: -item[1])
    seconds = {label: f"{split.label_seconds[label]:9.1f} s  " for label in split.labels if split.recordings}
    labels = [f"{count:7d}  {seconds.get(label, '')}{printable(label)}" for label, count in counts]
    yield from _titled_list("labels", labels, limit=2 * _MAX_ENTRIES)
    findings = {
        "clipped": split.clipped,
        "silent": split.silent,
        "unreadable": split.unreadable,
    }
    for title, entries in findings.items():
        yield from _titled_list(
            title, [f"row {entry.row} {printable(entry.path)}: {entry.what}" for entry in entries]
        )
    for kind, same in _KINDS.items():
        repeated = [repetition for repetition in split.repeated if repetition.kind == kind]
        repeated.sort(key=lambda repetition: not repetition.contradictory)
        wrong = sum(repetition.contradictory for repetition in repeated)
        remark = f", {wrong} of them with labels that contradict each other" if wrong else ""
        yield from _titled_list(f"{same} several times{remark}", list(map(_repetition_line, repeated)))


def _kind(split: SplitReport) -> str:
    return f"windows of {split.recordings} recordings" if split.recordings else "clips"


def _repetition_line(repetition: Repetition) -> str:
    """Return the first clips of a repetition, with their labels if these differ."""
    clips = [f"row {row} {printable(path)}" for row, path in repetition.clips]
    if repetition.contradictory:
        pairs = zip(clips, repetition.labels, strict=True)
        clips = [f"{clip} ({', '.join(map(printable, labels))})" for clip, labels in pairs]
    more = f"  and {len(clips) - _MAX_CLIPS} more" if len(clips) > _MAX_CLIPS else ""
    return "  =  ".join(clips[:_MAX_CLIPS]) + more


def _titled_list(title: str, rows: list[str], limit: int = _MAX_ENTRIES) -> Iterator[str]:
    """Yield a list under its title, nothing if it is empty."""
    if rows:
        yield f"  {title} ({len(rows)})"
        yield from (f"    {row}" for row in rows[:limit])
    if len(rows) > limit:
        yield f"    ... and {len(rows) - limit} more"
