"""Statistics of a column or of parts of file names that may group clips: sizes of groups, and their labels."""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

#: Share of all clips above which one group is no group: the other splits would be smaller than it.
_MAX_SHARE = 0.5

#: Share of the labels (by clips) that must have several groups, so that some can be held out.
_MIN_VARIED = 0.5


@dataclass(frozen=True, kw_only=True)
class GroupStatistics:
    """Statistics of values that may be groups, one a clip.

    Attributes:
        clips: number of clips.
        groups: number of distinct values.
        largest: clips of the most frequent value.
        example: the most frequent value.
        varied: share of the clips whose label has several values.
        within_label: share of the clips that share value and label with another clip.
        across_labels: share of the values that occur with several labels.
    """

    clips: int
    groups: int
    largest: int
    example: str
    varied: float
    within_label: float
    across_labels: float

    @classmethod
    def of(cls, values: Sequence[str], labels: Sequence[tuple[int, ...]]) -> GroupStatistics:
        """Return the statistics of the value and the label indices of each clip."""
        sizes = Counter(values)
        pairs = Counter(zip(values, labels, strict=True))
        values_of_label = Counter(label for _, label in pairs)
        labels_of_value = Counter(value for value, _ in pairs)
        clips = len(values)
        example, largest = sizes.most_common(1)[0]
        return cls(
            clips=clips,
            groups=len(sizes),
            largest=largest,
            example=example,
            varied=sum(values_of_label[label] > 1 for label in labels) / clips,
            within_label=sum(count for count in pairs.values() if count > 1) / clips,
            across_labels=sum(count > 1 for count in labels_of_value.values()) / len(sizes),
        )

    def problem(self, least: int) -> str | None:
        """Return why the values are not groups, of which there must be at least `least`; None if they are."""
        if self.groups == 1:
            return "has the same value for every clip"
        if self.groups == self.clips:
            return "has another value for every clip"
        if self.groups < least:
            return f"has {self.groups} values, too few to hold some out"
        if self.largest > _MAX_SHARE * self.clips:
            return f"has the value {self.example!r} for {self.largest} of {self.clips} clips"
        if self.varied < _MIN_VARIED:
            return "has one value for each label, or nearly so"
        return None

    def describe(self, *, shown: bool = True) -> str:
        """Return the numbers in words."""
        text = f"{self.groups} groups of {self.clips / self.groups:.3g} clips on average"
        return f"{text}, such as {reprlib.repr(self.example)}" if shown else text
