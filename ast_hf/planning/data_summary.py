"""What a data set is like, from its tables and headers: clips, lengths, rates, labels, groups, folds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict

from ..audio import load_audio
from ..data.audio_headers import read_header
from ..data.grouping import find_groups
from ..data.holding_out import fold_name
from ..data.naming_conventions import BOUNDARIES
from ..data.splits import label_counts, label_lists, label_names, split_task
from ..errors import AstHfError, error
from ..log_mel import FRAME_SECONDS
from ..task import Task

#: Training clips whose headers are read, and that are decoded for the bandwidth, at even distances.
HEADER_CLIPS = 5_000
BANDWIDTH_CLIPS = 48
#: Share of the power of a clip below its bandwidth, and seconds of each clip that are looked at.
POWER_SHARE = 0.95
BANDWIDTH_SECONDS = 10.0


@dataclass(frozen=True)
class Lengths:
    """Quantiles of the lengths of clips, in seconds."""

    shortest: float
    low: float
    median: float
    high: float
    longest: float
    total: float

    @classmethod
    def of(cls, seconds: list[float], clips: int) -> Lengths:
        """Return the quantiles 0, 0.05, 0.5, 0.95 and 1 of a sample, and the total of all `clips`."""
        shortest, low, median, high, longest = np.quantile(seconds, (0, 0.05, 0.5, 0.95, 1)).tolist()
        return cls(shortest, low, median, high, longest, float(np.mean(seconds)) * clips)


@dataclass(frozen=True)
class DataSummary:
    """What the choices of a recipe depend on.

    Attributes:
        source: the data as the user named them.
        reading: other options of the section `data` that read them.
        train_split: the split to train on.
        clips: split -> number of its clips.
        labels: label -> training clips that have it, in the order of the classes.
        multi_label: clips may have several labels.
        unlabelled: training clips without a label.
        lengths: lengths of the training clips that can be read.
        rates: sampling rate in Hz -> number of files, of the training clips.
        bandwidth: frequency in Hz below which 95 % of the power of the middle clip lies; None if not measured.
        group_options: options of the section `data` that keep speakers, recordings or other sources of several
            clips on one side of a split; empty if none were found.
        groups: number of these sources in the training split.
        group_reason: how they were recognised.
        fold_column: column of the folds.
        folds: their names, if the table has folds; empty if it has none.
        divided_groups: number of these sources that are in several folds.
        has_times: clips are stretches of files, from a start to an end.
        unreadable: clips of all splits whose header shows that they cannot be read or are too short.
        first_unreadable: what is wrong with the first of them.
    """

    source: Any
    train_split: str
    clips: dict[str, int]
    labels: dict[str, int]
    lengths: Lengths
    rates: dict[int, int]
    reading: dict[str, Any] = field(default_factory=dict)
    multi_label: bool = False
    unlabelled: int = 0
    bandwidth: float | None = None
    group_options: dict[str, str] = field(default_factory=dict)
    groups: int = 0
    group_reason: str = ""
    fold_column: str = "fold"
    folds: tuple[str, ...] = ()
    divided_groups: int = 0
    has_times: bool = False
    unreadable: int = 0
    first_unreadable: str = ""

    @property
    def train_clips(self) -> int:
        """Number of training clips."""
        return self.clips[self.train_split]

    @property
    def typical_class(self) -> int:
        """Training clips of the class in the middle."""
        return sorted(self.labels.values())[len(self.labels) // 2]

    @property
    def smallest_class(self) -> int:
        """Training clips of the rarest class."""
        return min(self.labels.values())

    @property
    def imbalance(self) -> float:
        """Clips of the most frequent class, as a multiple of those of the rarest."""
        return max(self.labels.values()) / max(1, self.smallest_class)

    @property
    def has_validation(self) -> bool:
        """True if the data have a validation split."""
        return "validation" in self.clips and self.train_split != "validation"

    @property
    def test_splits(self) -> list[str]:
        """Splits to report on: neither the training split nor the validation split."""
        return [name for name in self.clips if name not in (self.train_split, "validation")]

    @property
    def windowed(self) -> bool:
        """True if recordings are cut into windows of a length that the user chose."""
        return "window_seconds" in self.reading

    @property
    def has_equal_lengths(self) -> bool:
        """True if nearly all clips have one length, as excerpts that were cut by a rule have."""
        return self.lengths.high - self.lengths.low <= 0.02 * self.lengths.median


def summarise_data(
    splits: Mapping[str, Dataset], source: Any, reading: dict[str, Any], *, train_split: str = "train"
) -> DataSummary:
    """Return the summary of splits that `load_audio_dataset` read; of audio, headers and 48 clips are read.

    Args:
        splits: stored splits, not a stream.
        source: the data as the user named them.
        reading: other options of the section `data` that read them.
        train_split: the split to train on.

    Raises:
        AstDataError: E209 without that split or without a readable clip in it.
    """
    if train_split not in splits:
        what = f"{train_split!r} does not exist, the splits are {', '.join(splits)}"
        fix = "name the folder or the rows to train on `train`, or draw new splits: "
        fix += "ast-hf split DATA --redraw --output table.csv"
        raise error("E209", where="training split", what=what, fix=fix)
    train = splits[train_split]
    names = label_names(train)
    counts = label_counts(train)
    headers = _read_headers(train, _Headers())
    if not headers.seconds:
        what = f"no clip can be read, the first: {headers.first}"
        raise error("E209", where=f"split {train_split!r}", what=what, fix="see ast-hf stats")
    for name, split in splits.items():
        if name != train_split:
            _read_headers(split, others := _Headers())
            headers.unreadable += others.unreadable
            headers.first = headers.first or others.first
    fold_column = reading.get("fold_column", "fold")
    folds = _find_folds(splits, train, fold_column)
    return DataSummary(
        source=source,
        reading=dict(reading),
        train_split=train_split,
        clips={name: len(split) for name, split in splits.items()},
        labels={name: counts[index] for index, name in enumerate(names)},
        multi_label=split_task(train) is Task.MULTI_LABEL,
        unlabelled=sum(not labels for labels in label_lists(train)),
        lengths=Lengths.of(headers.seconds, len(train)),
        rates=dict(headers.rates.most_common()),
        bandwidth=_measure_bandwidth(train),
        fold_column=fold_column,
        folds=folds,
        has_times=set(BOUNDARIES) <= set(train.column_names),
        unreadable=headers.unreadable,
        first_unreadable=headers.first,
        **_describe_groups(splits, train_split, train[fold_column] if folds else None),
    )


@dataclass
class _Headers:
    """Headers of clips, and how many have none."""

    seconds: list[float] = field(default_factory=list)
    rates: Counter[int] = field(default_factory=Counter)
    unreadable: int = 0
    first: str = ""


def _evenly(total: int, number: int) -> list[int]:
    """Return at most `number` row numbers at even distances."""
    step = max(1, math.ceil(total / number))
    return list(range(0, total, step))


def _read_headers(split: Dataset, found: _Headers) -> _Headers:
    """Add the headers of a split to `found`."""
    for number in _evenly(len(split), HEADER_CLIPS):
        row = split[number]
        try:
            header = read_header(row["audio"])
            seconds = _clip_seconds(row, header.seconds)
            if seconds < FRAME_SECONDS:
                raise error("E103", where="clip", what=f"too short, {seconds:.3f} s", fix="remove it")
        except AstHfError as problem:
            found.unreadable += 1
            found.first = found.first or f"{row['audio'].get('path') or f'row {number + 1}'}: {problem.what}"
            continue
        found.seconds.append(seconds)
        found.rates[header.rate] += 1
    return found


def _clip_seconds(row: dict[str, Any], whole: float) -> float:
    """Return the length of a clip: that of its file, or from its `start` to its `end`."""
    start = row.get("start")
    end = row.get("end")
    return (whole if end is None else min(end, whole)) - (start or 0.0)


def _measure_bandwidth(train: Dataset) -> float | None:
    """Return the median over some clips of the frequency in Hz below which 95 % of their power lies."""
    values = []
    for number in _evenly(len(train), BANDWIDTH_CLIPS):
        row = train[number]
        try:
            rate = read_header(row["audio"]).rate
            samples = load_audio(row["audio"], rate, start=row.get("start"), end=row.get("end"))
        except AstHfError:
            continue
        power = np.cumsum(np.abs(np.fft.rfft(samples[: int(rate * BANDWIDTH_SECONDS)])) ** 2)
        if len(power) > 1 and power[-1] > 0:
            position = int(np.searchsorted(power, POWER_SHARE * power[-1]))
            values.append(position / (len(power) - 1) * rate / 2)
    return float(np.median(values)) if values else None


def _find_folds(splits: Mapping[str, Dataset], train: Dataset, column: str) -> tuple[str, ...]:
    """Return the names of the folds of a table without other splits, in order; empty if there are none."""
    if len(splits) > 1 or column not in train.column_names:
        return ()
    names = {fold_name(value) for value in train[column] if value not in (None, "")}
    if not 2 <= len(names) <= 100:
        return ()
    return tuple(
        sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))
    )


def _describe_groups(
    splits: Mapping[str, Dataset], train_split: str, folds: list[Any] | None
) -> dict[str, Any]:
    """Return the fields of a summary about groups; `folds` is the fold of each training clip."""
    found = find_groups(DatasetDict(splits))
    if found is None:
        return {}
    values = found.values[train_split]
    pairs = set(zip(values, map(fold_name, folds or [""] * len(values)), strict=True))
    parts = Counter(value for value, _ in pairs)
    return {
        "group_options": found.options,
        "groups": len(parts),
        "group_reason": found.reason,
        "divided_groups": sum(count > 1 for count in parts.values()),
    }
