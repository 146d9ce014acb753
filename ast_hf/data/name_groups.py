"""Groups of clips in the names of files and folders: `0a7c2a8d` in `bed/0a7c2a8d_nohash_0.wav` is a speaker.

Names are cut at separators, and each part is taken as a column. Parts that are labels, counters (takes, segments)
or unique numbers are none; where two parts are as likely, none is taken.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from .folder_names import are_splits_or_folds, is_container, split_of_name
from .group_statistics import GroupStatistics
from .group_words import COUNTING, STYLES, group_word, words_of

#: Groups that are enough: with a word such as `speaker`, for names and identifiers, and for bare numbers.
_FEWEST = {
    "word": 4,
    "folder": 4,
    "name": 5,
    "identifier": 6,
    "number": 8,
    "padded": 5,
    "short": 5,
    "prefix": 5,
}

#: Share of the clips that share value and label with another one, from which on a value is not there by chance:
#: numbers that count the clips of each label repeat across labels only.
_REPEATED = 0.1

#: Clips of a value, on average, from which on a sparse number is not there by chance.
_FREQUENT = 3

#: Digits of padded numbers that are more than takes of a word need.
_WIDE = 6

#: Share of the numbers between the smallest and the largest that counters use.
_DENSE = 0.8

#: What separates the parts of a name. `-` is last, as in a class of characters of a pattern.
_SEPARATORS = "_. -"
_PART = re.compile(f"[^{_SEPARATORS}]+")
_SUFFIX = r"\.[^./]+$"
_LETTERS_DIGITS = re.compile(r"([A-Za-z]+)[-_]?(\d+)")


class _Candidate(NamedTuple):
    """Values that may be groups: their kind, one a clip, the pattern that finds them, and where they are."""

    kind: str
    values: list[str]
    pattern: str
    where: str


def find_name_pattern(
    paths: Sequence[str], labels: Sequence[tuple[int, ...]], label_names: Sequence[str]
) -> tuple[str, str] | None:
    """Return a pattern that finds the group in each path, and why, in words; None without clear groups.

    Args:
        paths: file of each clip, with forward slashes.
        labels: label indices of each clip.
        label_names: names of the labels, whose words are no groups.
    """
    if len(paths) < 2 or not all(map(_stem, paths)):
        return None
    known = {_plain(name) for name in label_names}
    parts = known | {_plain(part) for name in label_names for part in words_of(name)}
    texts = [label_names[indices[0]] if indices else "" for indices in labels]
    candidates = [*_folders(paths), *_tokens(paths, texts)]
    suitable = [
        (candidate, GroupStatistics.of(candidate.values, labels))
        for candidate in candidates
        if not {_plain(value) for value in candidate.values} <= known
    ]
    suitable = [(candidate, numbers) for candidate, numbers in suitable if _suits(candidate, numbers)]
    chosen = _choose(suitable) or _prefix(paths, labels, parts)
    if chosen is None or not _finds(chosen[0], paths):
        return None
    candidate, numbers = chosen
    name = paths[0].rpartition("/")[2] if candidate.kind != "folder" else "/".join(paths[0].split("/")[-3:])
    reason = f"{candidate.where}, as {candidate.values[0]!r} in {name!r}: {numbers.describe(shown=False)}"
    return candidate.pattern, reason


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).casefold()


def _finds(candidate: _Candidate, paths: Sequence[str]) -> bool:
    """Return True if the pattern finds just the values."""
    pattern = re.compile(candidate.pattern)
    matches = (pattern.search(path) for path in paths)
    return all(
        match is not None and match[1] == value
        for match, value in zip(matches, candidate.values, strict=True)
    )


def _folders(paths: Sequence[str]) -> list[_Candidate]:
    """Return the folders above the files, up to three levels, that are named after something."""
    parts = [path.split("/")[:-1] for path in paths]
    depth = min(map(len, parts))
    stems = [set(_split(path)) for path in paths]
    candidates = []
    for level in range(1, min(depth, 3) + 1):
        values = [folders[-level] for folders in parts]
        names = sorted(set(values))
        if len(names) < 2 or not all(names) or are_splits_or_folds(names) or any(map(_is_part, names)):
            continue
        is_repeated = all(value in stem for value, stem in zip(values, stems, strict=True))
        if _kind(values) is None and not is_repeated:
            continue
        pattern = f"([^/]+)/{_times('[^/]+/', level - 1)}[^/]+$"
        place = ("the folder of the file", "the folder above it", "the second folder above it")[level - 1]
        candidates.append(_Candidate("folder", values, pattern, place))
    return candidates


def _is_part(name: str) -> bool:
    """Return True for a folder that is a split, a container, or a part by its number."""
    words = words_of(name)
    counts = bool(words) and words[0] in COUNTING
    return is_container(name) or counts or split_of_name(name) is not None


def _stem(path: str) -> str:
    """Return the name of a file without its suffix."""
    return path.rpartition("/")[2].rpartition(".")[0]


def _split(path: str) -> list[str]:
    """Return the parts of the name of a file."""
    return _PART.findall(_stem(path))


def _tokens(paths: Sequence[str], texts: Sequence[str]) -> list[_Candidate]:
    """Return the parts of the file names that may be groups: counted from the start, or from the end.

    `texts` are the labels of the clips: names of labels of several words have more parts than others.
    """
    rows = list(map(_split, paths))
    marks = _marks(paths)
    if not all(rows) or not marks:
        return []
    starts, ends = _aligned(rows, texts)
    padding = f"[{marks}]*" if any(path.rpartition("/")[2][0] in marks for path in paths) else ""
    part = f"[^/{marks}]+"
    mark = f"[{marks}]+" if len(marks) > 1 or _repeats(paths, marks) else marks.replace(".", r"\.")
    candidates = []
    for number in range(starts):
        pattern = f"(?:^|/){padding}{_times(part + mark, number)}({part}){mark}[^/]*$"
        candidates += _candidate(rows, [number] * len(rows), pattern)
    for number in range(ends):
        pattern = f"({part}){_times(mark + part, number)}[{marks}]*{_SUFFIX}"
        candidates += _candidate(rows, [len(row) - 1 - number for row in rows], pattern)
    return candidates


def _aligned(rows: Sequence[Sequence[str]], texts: Sequence[str]) -> tuple[int, int]:
    """Return how many parts have the same place in every name, counted from its start and from its end."""
    length = min(map(len, rows))
    if length == max(map(len, rows)):
        return length - 1, 1
    before, after = set(), set()
    for row, text in zip(rows, texts, strict=True):
        parts = [part.casefold() for part in row]
        words = _PART.findall(text.casefold())
        place = next((n for n in range(len(parts)) if words and parts[n : n + len(words)] == words), None)
        if place is None:
            return min(1, length - 1), 1
        before.add(place)
        after.add(len(row) - place - len(words))
    starts = min(before) if len(before) == 1 else min(1, *before)
    ends = min(after) if len(after) == 1 else min(1, *after)
    return min(starts, length - 1), ends


def _marks(paths: Sequence[str]) -> str:
    """Return the separators that the names have, for a class of characters in a pattern: `-` is last."""
    used = set().union(*map(_stem, paths))
    return "".join(mark for mark in _SEPARATORS if mark in used)


def _repeats(paths: Sequence[str], mark: str) -> bool:
    return any(mark * 2 in path.rpartition("/")[2] for path in paths)


def _times(pattern: str, count: int) -> str:
    """Return a pattern that matches `count` times."""
    if count == 0:
        return ""
    return f"(?:{pattern})" + (f"{{{count}}}" if count > 1 else "")


def _candidate(rows: Sequence[Sequence[str]], places: Sequence[int], pattern: str) -> list[_Candidate]:
    """Return a part of the names as a candidate, [] if its values cannot be groups."""
    values = [row[place] for row, place in zip(rows, places, strict=True)]
    previous = {row[place - 1].lower() for row, place in zip(rows, places, strict=True) if place > 0}
    named = len(previous) == 1 and group_word(next(iter(previous))) is not None
    counted = len(previous) == 1 and next(iter(previous)) in COUNTING
    kind = "word" if named else _kind(values)
    if kind is None or (counted and not named):
        return []
    return [_Candidate(kind, values, pattern, "a part of the file name")]


def _kind(values: Sequence[str]) -> str | None:
    """Return what values look like, a key of `_FEWEST`; None for others."""
    names = set(values)
    if all(name.isascii() and name.isdecimal() for name in names):
        if _is_wide(names):
            return "padded"
        return None if _counts(names) else "number"
    marked = [match for name in names if (match := _LETTERS_DIGITS.fullmatch(name))]
    if len(marked) == len(names):
        beginnings = {match[1].lower() for match in marked}
        if any(group_word(word) is not None for word in beginnings):
            return "word"
        if beginnings & COUNTING or min(len(match[2]) for match in marked) < 2:
            return None
        long = min(len(match[2]) for match in marked) > 2
        return "identifier" if long or len(beginnings) > 1 else "short"
    if all(name.isalpha() for name in names):
        is_styled = any(name.casefold() in STYLES for name in names)
        return None if is_styled or min(map(len, names)) < 3 else "name"
    is_mixed = all(len(name) >= 6 and name.isalnum() for name in names)
    has_digits = sum(any(map(str.isdigit, name)) for name in names) > 0.8 * len(names)
    return "identifier" if is_mixed and has_digits else None


def _is_wide(names: set[str]) -> bool:
    """Return True for small numbers that are written with many digits, as identifiers are: `00000030`."""
    width = min(map(len, names))
    return width >= _WIDE and max(map(int, names)) < 10 ** (width - 3)


def _counts(names: set[str]) -> bool:
    """Return True for numbers that count takes or segments, and for years and times of day."""
    numbers = sorted(map(int, names))
    first, last = numbers[0], numbers[-1]
    is_dense = len(numbers) >= _DENSE * (last - first + 1)
    is_padded = any(name.startswith("0") for name in names)
    if all(len(name) == 4 and 1900 <= int(name) <= 2100 for name in names):
        return True
    if all(len(name) == 6 and name[:2] < "24" and name[2:4] < "60" and name[4:] < "60" for name in names):
        return True
    return is_dense and (first < 100 or is_padded)


def _suits(candidate: _Candidate, numbers: GroupStatistics) -> bool:
    """Return True if values are groups by their numbers and labels."""
    if numbers.problem(_FEWEST[candidate.kind]) is not None:
        return False
    frequent = numbers.clips >= _FREQUENT * numbers.groups
    repeated = numbers.within_label >= _REPEATED
    if candidate.kind == "name":
        return numbers.across_labels > 0.5 and numbers.clips >= 2 * numbers.groups
    if candidate.kind == "folder":
        return numbers.clips >= 2 * numbers.groups and (repeated or numbers.across_labels > 0.5)
    if candidate.kind in ("padded", "short"):
        return repeated  # a counter of the clips of each label would repeat across labels only
    return repeated or frequent or (candidate.kind != "number" and numbers.across_labels > 0.5)


def _choose(
    suitable: Sequence[tuple[_Candidate, GroupStatistics]],
) -> tuple[_Candidate, GroupStatistics] | None:
    """Return the candidate that a word names, else the one that contains others, else the one of most values."""
    if not suitable:
        return None
    named = [item for item in suitable if item[0].kind == "word"] or list(suitable)
    outermost = [
        item
        for item in named
        if not any(_contains(other[0].values, item[0].values) for other in named if other is not item)
    ]
    return max(outermost or named, key=lambda item: item[1].groups)


def _contains(outer: Sequence[str], inner: Sequence[str]) -> bool:
    """Return True if each value of `inner` is in one of fewer values of `outer`."""
    pairs = set(zip(inner, outer, strict=True))
    return len(pairs) == len(set(inner)) > len(set(outer))


def _prefix(
    paths: Sequence[str], labels: Sequence[tuple[int, ...]], names: set[str]
) -> tuple[_Candidate, GroupStatistics] | None:
    """Return the names without their last part as groups, if that counts the pieces of one recording."""
    rows = list(map(_split, paths))
    if min(map(len, rows)) < 2:
        return None
    pieces = [re.sub(r"^[A-Za-z]+", "", row[-1]) for row in rows]
    if not all(piece.isascii() and piece.isdecimal() for piece in pieces) or not _counts(set(pieces)):
        return None
    marks = _marks(paths)
    pattern = f"([^/]*[^/{marks}])[{marks}]+[^/{marks}]+{_SUFFIX}"
    compiled = re.compile(pattern)
    values = [match[1] if (match := compiled.search(path)) else "" for path in paths]
    if not all(any(map(str.isdigit, value)) for value in values) or _has_many_parts(rows, names):
        return None
    numbers = GroupStatistics.of(values, labels)
    if numbers.problem(_FEWEST["prefix"]) or numbers.clips < 2 * numbers.groups or _is_unbalanced(values):
        return None
    return _Candidate("prefix", values, pattern, "the file name without the number at its end"), numbers


def _has_many_parts(rows: Sequence[Sequence[str]], names: set[str]) -> bool:
    """Return True if names have more parts that vary than the label, a recording and a number.

    The last of them may then be anything, such as the actor of RAVDESS.
    """
    constant = set.intersection(*map(set, rows))
    return any(
        sum(part not in constant and _plain(part) not in names for part in row[:-1]) > 1 for row in rows
    )


def _is_unbalanced(values: Sequence[str]) -> bool:
    """Return True if most values have a single clip, so that their repetition may be by chance."""
    sizes = Counter(values)
    return sum(size == 1 for size in sizes.values()) > 0.5 * len(sizes)
