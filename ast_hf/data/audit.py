"""What is in a data set? Mean and standard deviation of its log-mel values, labels, lengths, and clips to look at."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from tqdm.auto import tqdm

from ..audio import load_audio, resample
from ..errors import AstHfError, error
from ..feature_extraction_ast import ASTFeatureExtractor
from ..log_mel import log_mel, num_frames, num_samples
from ..moments import Moments
from .conventions import Row
from .duplicates import Duplicate, Repetition, _Heard, _Sameness
from .headers import read_header
from .splits import is_multi_label, label_names

#: A sample is at full scale from one step of 16 bits below the largest value on. It counts as clipped when a sample
#: beside it is at the same end of the scale, since the peak of a normalised clip touches full scale and leaves it.
FULL_SCALE = 1.0 - 2.0**-15

#: A file is listed as clipped from this share of clipped samples on, as silent up to this peak (-80 dB).
CLIPPED_SHARE, SILENT_PEAK = 1e-3, 1e-4


#: What is printed of each list, and of clips that are the same; the JSON report has all of them.
_SHOWN, _SAME_SHOWN = 10, 4

#: How clips may be the same -> how that is printed.
_KINDS = {"path": "same file", "content": "same audio"}


@dataclass
class Finding:
    """A clip to look at: its row in its split, counted from 1, its file (or the name of embedded audio), and what it is
    about.
    """

    row: int
    path: str
    what: str
    code: str = ""


@dataclass
class SplitReport:
    """What is in one split.

    Attributes:
        clips: how many rows there are.
        labels: label -> clips that have it, in the order of the classes.
        seconds: length of the readable clips: `min`, `median`, `max`, `total`.
        rates: sampling rate in Hz, as text -> files.
        channels: number of channels, as text -> files.
        clipped: files with a share of at least `CLIPPED_SHARE` clipped samples (see `FULL_SCALE`), after mixing to
            mono.
        silent: files that never exceed `SILENT_PEAK`.
        unreadable: files that training would stop at, with the reason; too short ones are among them.
        repeated: clips that are there more than once. Other stretches of one file are other clips.
    """

    clips: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    rates: dict[str, int] = field(default_factory=dict)
    channels: dict[str, int] = field(default_factory=dict)
    clipped: list[Finding] = field(default_factory=list)
    silent: list[Finding] = field(default_factory=list)
    unreadable: list[Finding] = field(default_factory=list)
    repeated: list[Repetition] = field(default_factory=list)


@dataclass
class DataReport:
    """What `describe_data` found.

    Attributes:
        mean: of the training split's raw log-mel values; None when nothing of it could be read.
        std: their standard deviation.
        train_split: the split they are measured on.
        sampling_rate: in Hz; `num_mel_bins` and `max_length` (frames) as for the feature extractor.
        splits: split -> what is in it.
        duplicates: the same clip in several splits, which makes results on them look better than they are.
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
        """The unreadable files of all splits."""
        return [finding for split in self.splits.values() for finding in split.unreadable]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """The report as text; long lists are cut, and say so."""
        if self.mean is not None:
            yield f"mean {self.mean:.7g}  std {self.std:.7g}  of raw log-mel values ({self.train_split})"
        for name, split in self.splits.items():
            yield from _split_lines(name, split)
        for kind, same in _KINDS.items():
            found = [duplicate for duplicate in self.duplicates if duplicate.kind == kind]
            rows = ["  =  ".join(f"{split} row {row} {path}" for split, row, path in entry.clips) for entry in found]
            yield from _listed(f"{same} in several splits", rows)


def describe_data(
    splits: Mapping[str, Dataset | IterableDataset],
    sampling_rate: int = 16_000,
    *,
    train_split: str = "train",
    num_mel_bins: int = 128,
    max_length: int = 1024,
) -> DataReport:
    """Read every clip once, and tell what a training run should know.

    Args:
        splits: of `load_audio_dataset`, stored or streamed; `check_files=False` there leaves missing files to be
            listed here.
        sampling_rate: rate in Hz that the model hears.
        train_split: split that mean and standard deviation are measured on, as `measure_statistics` does.
        num_mel_bins: mel bands of the model's input.
        max_length: frames of the model's input.

    Returns:
        The report. Files that cannot be read are in it, and are no error.

    Raises:
        AstDataError: E209 when there is no such training split.
    """
    if train_split not in splits:
        what = f"there is no split {train_split!r}, there are {', '.join(splits)}"
        raise error("E209", where="train_split", what=what, fix="name one of them")
    extractor = ASTFeatureExtractor(sampling_rate=sampling_rate, num_mel_bins=num_mel_bins, max_length=max_length)
    moments, same = Moments(), _Sameness()
    described = {}
    for name, split in splits.items():
        reading = _SplitReading(name, split, extractor, moments if name == train_split else None, same)
        rows = tqdm(split, desc=f"reading {name}", unit="clip", leave=False)
        described[name] = reading.report(rows)
    for name, repetitions in same.repetitions().items():
        described[name].repeated = repetitions
    mean, std = (moments.mean, moments.std) if moments.count else (None, None)
    return DataReport(mean, std, train_split, sampling_rate, num_mel_bins, max_length, described, same.duplicates())


def _heard_frames(waveform: np.ndarray, extractor: ASTFeatureExtractor) -> np.ndarray:
    """Raw log-mel of the real frames of a clip that the model hears, `(frames, mel)`."""
    heard = waveform[: num_samples(extractor.max_length, extractor.sampling_rate)]
    return log_mel(torch.from_numpy(heard), extractor.sampling_rate, extractor.num_mel_bins).numpy()


class _SplitReading:
    """One pass over a split."""

    def __init__(
        self,
        name: str,
        split: Dataset | IterableDataset,
        extractor: ASTFeatureExtractor,
        moments: Moments | None,
        same: _Sameness,
    ) -> None:
        self.name, self.extractor, self.moments, self.same = name, extractor, moments, same
        self.names, self.several = label_names(split), is_multi_label(split)
        self.result, self.labels, self.seconds = SplitReport(), Counter[int](), list[float]()
        self.rates, self.channels = Counter[str](), Counter[str]()

    def report(self, rows: Iterable[Row]) -> SplitReport:
        """Read all rows."""
        for number, row in enumerate(rows, start=1):
            self.result.clips += 1
            self.labels.update(self._indices(row))
            path = row["audio"].get("path") or "embedded audio"
            try:
                self._read(number, row, path)
            except AstHfError as problem:
                self.result.unreadable.append(Finding(number, path, problem.what, problem.code))
        self.result.labels = {name: self.labels[index] for index, name in enumerate(self.names)}
        self.result.rates, self.result.channels = dict(self.rates.most_common()), dict(self.channels.most_common())
        if self.seconds:
            measures: dict[str, Callable[[list[float]], float]]
            measures = {"min": min, "median": statistics.median, "max": max, "total": math.fsum}
            self.result.seconds = {name: float(measure(self.seconds)) for name, measure in measures.items()}
        return self.result

    def _indices(self, row: Row) -> list[int]:
        return row["labels"] if self.several else [row["label"]]

    def _read(self, number: int, row: Row, path: str) -> None:
        rate, channels, _ = read_header(row["audio"])
        part = {"start": row.get("start"), "end": row.get("end")}
        samples = load_audio(row["audio"], rate, **part)
        waveform = resample(samples, rate, self.extractor.sampling_rate)
        if not num_frames(len(waveform), self.extractor.sampling_rate):
            what = f"too short, {len(samples) / rate:.3f} s"
            raise error("E103", where="clip", what=what, fix="remove it, or record at least 25 ms")
        self.seconds.append(len(samples) / rate)
        self.rates[str(rate)] += 1
        self.channels[str(channels)] += 1
        peak, share = float(np.abs(samples).max()), clipped_share(samples)
        if peak <= SILENT_PEAK:
            self.result.silent.append(Finding(number, path, f"peak {peak:.2g}"))
        if share >= CLIPPED_SHARE:
            self.result.clipped.append(Finding(number, path, f"{share:.1%} of the samples"))
        if self.moments is not None:
            self.moments.add(_heard_frames(waveform, self.extractor))
        clip = _Heard(self.name, number, path, tuple(sorted(self.names[index] for index in self._indices(row))))
        self.same.add(clip, row, samples if peak > SILENT_PEAK else None, rate)


def clipped_share(samples: np.ndarray) -> float:
    """Share of the samples `(time,)` that are at full scale (see `FULL_SCALE`) beside another at the same end."""
    share = 0
    for at_end in (samples >= FULL_SCALE, samples <= -FULL_SCALE):
        beside = np.zeros_like(at_end)
        beside[1:] |= at_end[:-1]
        beside[:-1] |= at_end[1:]
        share += int((at_end & beside).sum())
    return share / len(samples)


def _split_lines(name: str, split: SplitReport) -> Iterator[str]:
    yield f"\n{name}: {split.clips} clips"
    if split.seconds:
        shown = ", ".join(f"{measure} {seconds:.2f} s" for measure, seconds in split.seconds.items())
        yield f"  length    {shown}"
        yield "  rates     " + ", ".join(f"{count} x {rate} Hz" for rate, count in split.rates.items())
        yield "  channels  " + ", ".join(f"{count} x {channels}" for channels, count in split.channels.items())
    labels = [f"{count:7d}  {label}" for label, count in sorted(split.labels.items(), key=lambda item: -item[1])]
    yield from _listed("labels", labels, shown=2 * _SHOWN)
    for title in ("clipped", "silent", "unreadable"):
        findings = getattr(split, title)
        yield from _listed(title, [f"row {found.row} {found.path}: {found.what}" for found in findings])
    for kind, same in _KINDS.items():
        found = sorted((one for one in split.repeated if one.kind == kind), key=lambda one: not one.contradictory)
        wrong = sum(one.contradictory for one in found)
        told = f", {wrong} of them with labels that contradict each other" if wrong else ""
        yield from _listed(f"{same} several times{told}", [_repetition_line(one) for one in found])


def _repetition_line(same: Repetition) -> str:
    """Its first clips, with their labels where these differ."""
    clips = [f"row {row} {path}" for row, path in same.clips]
    if same.contradictory:
        clips = [f"{clip} ({', '.join(labels)})" for clip, labels in zip(clips, same.labels, strict=True)]
    more = f"  and {len(clips) - _SAME_SHOWN} more" if len(clips) > _SAME_SHOWN else ""
    return "  =  ".join(clips[:_SAME_SHOWN]) + more


def _listed(title: str, rows: list[str], shown: int = _SHOWN) -> Iterator[str]:
    """A list under its title and length, or nothing for an empty one."""
    if rows:
        yield f"  {title} ({len(rows)})"
        yield from (f"    {row}" for row in rows[:shown])
    if len(rows) > shown:
        yield f"    ... and {len(rows) - shown} more"
