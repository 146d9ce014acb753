"""Groups of clips in the names of files and folders: `0a7c2a8d` in `bed/0a7c2a8d_nohash_0.wav` is a speaker.

Names are cut at separators, and each part is taken as a column. Parts that are labels, counters (takes, segments)
or unique numbers are none; where two parts are as likely, none is taken.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .folder_names import are_splits_or_folds, is_container, split_of_name
from .group_statistics import GroupStatistics

#: Words that name groups -> rank: what the clips of a group share, most first (who, what recording, where).
_WORDS = {
    **dict.fromkeys(("group", "groups"), 0),
    **dict.fromkeys(("speaker", "speakers", "spk", "spkr", "talker", "client", "subject", "subj", "sub"), 1),
    **dict.fromkeys(("patient", "participant", "person", "user", "actor", "singer", "performer", "player"), 1),
    **dict.fromkeys(("musician", "artist", "voice", "reader", "caller", "individual", "animal", "volunteer"), 1),
    **dict.fromkeys(("donor", "child", "infant", "baby", "contributor", "uploader", "recordist", "author"), 1),
    **dict.fromkeys(("recording", "rec", "record", "source", "src", "original", "origin", "parent", "track"), 2),
    **dict.fromkeys(("song", "album", "piece", "video", "youtube", "yt", "ytid", "freesound", "fs", "fsid"), 2),
    **dict.fromkeys(("tape", "movie", "film", "episode", "podcast", "show", "dialogue", "conversation"), 2),
    **dict.fromkeys(("session", "sess", "visit", "day", "date"), 3),
    **dict.fromkeys(("instrument", "machine", "engine", "vehicle", "hive", "device", "recorder", "sensor"), 4),
    **dict.fromkeys(("site", "station", "location", "place", "room", "plot", "hospital", "city", "microphone"), 5),
}  # fmt: skip

#: Words that may stand next to them in the name of a column.
NAME_QUALIFIERS = frozenset(
    {
        "id",
        "ids",
        "name",
        "code",
        "key",
        "number",
        "num",
        "no",
        "nr",
        "hash",
        "uuid",
        "file",
        "filename",
        "of",
        "the",
    }
    | {"audio", "sound", "wav", "recorded", "by", "identifier", "url", "link"}
)

#: Words before a number that counts clips.
_COUNTING = frozenset(
    {
        "take",
        "seg",
        "segment",
        "part",
        "chunk",
        "rep",
        "repeat",
        "repetition",
        "no",
        "n",
        "num",
        "v",
        "ver",
        "t",
    }
    | {
        "version",
        "try",
        "trial",
        "slice",
        "clip",
        "file",
        "frame",
        "win",
        "window",
        "utt",
        "utterance",
        "sample",
    }
    | {
        "track",
        "fold",
        "split",
        "batch",
        "class",
        "cls",
        "label",
        "copy",
        "aug",
        "ch",
        "channel",
        "mic",
        "idx",
        "x",
    }
    | {
        "snr",
        "khz",
        "hz",
        "db",
        "sec",
        "ms",
        "bpm",
        "vel",
        "pitch",
        "note",
        "key",
        "day",
        "date",
        "audio",
        "example",
    }
)

#: Words that describe how something sounds, not who or what it is.
_STYLES = frozenset(
    {
        "loud",
        "soft",
        "fast",
        "slow",
        "normal",
        "quiet",
        "noisy",
        "clean",
        "low",
        "mid",
        "medium",
        "high",
        "left",
    }
    | {"right", "male", "female", "man", "woman", "boy", "girl", "children", "adult", "close", "near", "far"}
    | {
        "indoor",
        "outdoor",
        "inside",
        "outside",
        "angry",
        "happy",
        "sad",
        "neutral",
        "calm",
        "fear",
        "disgust",
    }
    | {
        "surprise",
        "acoustic",
        "electronic",
        "synthetic",
        "electric",
        "short",
        "long",
        "front",
        "back",
        "side",
    }
    | {
        "nohash",
        "original",
        "augmented",
        "pitch",
        "stretch",
        "noise",
        "reverb",
        "speed",
        "orig",
        "train",
        "test",
    }
    | {
        "valid",
        "validation",
        "val",
        "dev",
        "eval",
        "north",
        "south",
        "east",
        "west",
        "summer",
        "winter",
        "spring",
    }
    | {"autumn", "morning", "noon", "evening", "night", "mono", "stereo", "bright", "dark", "muted", "open"}
)

#: Groups that are enough: with a word such as `speaker`, for names and identifiers, and for bare numbers.
_FEWEST = {"word": 4, "folder": 4, "name": 5, "identifier": 6, "number": 8, "prefix": 5}

#: Share of the clips that share value and label with another one, from which on a value is not there by chance:
#: numbers that count the clips of each label repeat across labels only.
_REPEATED = 0.1

#: Clips of a value, on average, from which on a sparse number is not there by chance.
_FREQUENT = 3

#: Share of the numbers between the smallest and the largest that counters use.
_DENSE = 0.8

#: What separates the parts of a name. `-` is last, as in a class of characters of a pattern.
_SEPARATORS = "_. -"
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_SUFFIX = r"\.[^./]+$"
_LETTERS_DIGITS = re.compile(r"([A-Za-z]+)[-_]?(\d+)")


class _Candidate(NamedTuple):
    """Values that may be groups: their kind, one a clip, the pattern that finds them, and where they are."""

    kind: str
    values: list[str]
    pattern: str
    where: str


def words_of(name: str) -> list[str]:
    """Return the words of a name in lower case: `speakerId`, `speaker_id` and `Speaker ID` are two."""
    return [word.lower() for word in _WORD.findall(name)]


def group_word(word: str) -> int | None:
    """Return the rank of a word that names groups, 0 for the one that says most; None for another word."""
    return _WORDS.get(word)


def find_name_pattern(
    paths: Sequence[str], labels: Sequence[tuple[int, ...]], label_names: Sequence[str]
) -> tuple[str, str] | None:
    """Return a pattern that finds the group in each path, and why, in words; None without clear groups.

    Args:
        paths: file of each clip, with forward slashes.
        labels: label indices of each clip.
        label_names: names of the labels, whose words are no groups.
    """
    if len(paths) < 2 or not all(os.path.splitext(path)[1] for path in paths):
        return None
    known = {_plain(name) for name in label_names}
    parts = known | {_plain(part) for name in label_names for part in words_of(name)}
    candidates = [*_folders(paths), *_tokens(paths)]
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
    counts = bool(words) and words[0] in _COUNTING
    return is_container(name) or counts or split_of_name(name) is not None


def _split(path: str) -> list[str]:
    """Return the parts of the name of a file."""
    stem = os.path.splitext(path.rpartition("/")[2])[0]
    return re.findall(f"[^{_SEPARATORS}]+", stem)


def _tokens(paths: Sequence[str]) -> list[_Candidate]:
    """Return the parts of the file names that may be groups: counted from the start, or from the end."""
    rows = list(map(_split, paths))
    marks = _marks(paths)
    if not all(rows) or not marks:
        return []
    length = min(map(len, rows))
    longest = max(map(len, rows))
    padding = f"[{marks}]*" if any(path.rpartition("/")[2][0] in marks for path in paths) else ""
    part = f"[^/{marks}]+"
    mark = f"[{marks}]+" if len(marks) > 1 or _repeats(paths, marks) else marks.replace(".", r"\.")
    candidates = []
    for number in range(length):
        if number < length - 1:
            pattern = f"(?:^|/){padding}{_times(part + mark, number)}({part}){mark}[^/]*$"
            candidates += _candidate(rows, lambda row, number=number: row[number], pattern, number)
        if length < longest or number == 0:
            pattern = f"({part}){_times(mark + part, number)}[{marks}]*{_SUFFIX}"
            place = len(rows[0]) - 1 - number
            candidates += _candidate(rows, lambda row, number=number: row[-1 - number], pattern, place)
    return candidates


def _marks(paths: Sequence[str]) -> str:
    """Return the separators that the names have, for a class of characters in a pattern: `-` is last."""
    used = {character for path in paths for character in os.path.splitext(path.rpartition("/")[2])[0]}
    return "".join(mark for mark in _SEPARATORS if mark in used)


def _repeats(paths: Sequence[str], mark: str) -> bool:
    return any(mark * 2 in path.rpartition("/")[2] for path in paths)


def _times(pattern: str, count: int) -> str:
    """Return a pattern that matches `count` times."""
    if count == 0:
        return ""
    return f"(?:{pattern})" + (f"{{{count}}}" if count > 1 else "")


def _candidate(
    rows: Sequence[Sequence[str]], take: Callable[[Sequence[str]], str], pattern: str, number: int
) -> list[_Candidate]:
    """Return a part of the names as a candidate, [] if its values cannot be groups."""
    values = list(map(take, rows))
    previous = {row[number - 1].lower() for row in rows if 0 < number <= len(row)}
    named = len(previous) == 1 and group_word(next(iter(previous))) is not None
    counted = len(previous) == 1 and next(iter(previous)) in _COUNTING
    kind = "word" if named else _kind(values)
    if kind is None or (counted and not named):
        return []
    return [_Candidate(kind, values, pattern, "a part of the file name")]


def _kind(values: Sequence[str]) -> str | None:
    """Return what values look like: a `word` with a number, a `name`, an `identifier`, a `number`; None for others."""
    names = set(values)
    if all(name.isascii() and name.isdecimal() for name in names):
        return None if _counts(names) else "number"
    marked = [match for name in names if (match := _LETTERS_DIGITS.fullmatch(name))]
    if len(marked) == len(names):
        beginnings = {match[1].lower() for match in marked}
        if any(group_word(word) is not None for word in beginnings):
            return "word"
        if beginnings & _COUNTING or min(len(match[2]) for match in marked) < 2:
            return None
        long = min(len(match[2]) for match in marked) > 2
        return "identifier" if long or len(beginnings) > 1 else None
    if all(name.isalpha() for name in names):
        is_styled = any(name.casefold() in _STYLES for name in names)
        return None if is_styled or min(map(len, names)) < 3 else "name"
    is_mixed = all(len(name) >= 6 and name.isalnum() for name in names)
    has_digits = sum(any(map(str.isdigit, name)) for name in names) > 0.8 * len(names)
    return "identifier" if is_mixed and has_digits else None


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
