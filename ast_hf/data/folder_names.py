"""Kinds of folders by their names: splits, folds, containers of clips, or labels."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .naming_conventions import SPLIT_NAMES

#: Words in the names of split folders, of fold folders (with a number or letter after them), and next to
#: both.
_SPLITS = frozenset({*SPLIT_NAMES, "devel", "development", "evaluation", "holdout", "heldout"})
_FOLDS = frozenset({"fold", "split"})
_EXTRA_WORDS = frozenset({"set", "part", "partition", "subset", "chunk", "shard", "section"})

#: Words for splits beyond `SPLIT_NAMES`, and short names.
_OTHER_SPLITS = SPLIT_NAMES | {
    "devel": "validation", "development": "validation", "evaluation": "test",
    "holdout": "test", "heldout": "test", "trainval": "train", "traindev": "train",
}  # fmt: skip
_SHORT_SPLITS = {"tr": "train", "trn": "train", "va": "validation", "te": "test", "ts": "test", "tst": "test"}

#: Words in the names of folders that do not describe their clips.
_CONTAINERS = frozenset(
    {"audio", "audios", "wav", "wavs", "flac", "mp3", "ogg", "clip", "clips", "sound", "sounds", "recording"}
    | {"recordings", "data", "dataset", "file", "files", "sample", "samples", "segment", "segments"}
)

_WORD = re.compile(r"[a-z]+|\d+")
_CAMEL_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


def split_of_name(name: str) -> str | None:
    """Return the split that a name begins or ends with, None for others: `trainA`, `test_full`, `te`."""
    if name.lower() in _SHORT_SPLITS:
        return _SHORT_SPLITS[name.lower()]
    ignored = _CONTAINERS | _EXTRA_WORDS
    words = [word.lower() for word in _CAMEL_WORD.findall(name)]
    words = [word for word in words if word not in ignored and not word.isdecimal() and len(word) > 1]
    return (_split_of_word(words[0]) or _split_of_word(words[-1])) if words else None


def _split_of_word(word: str) -> str | None:
    """Return the split of a word like `train` or `trainset`."""
    if word in _OTHER_SPLITS:
        return _OTHER_SPLITS[word]
    endings = _CONTAINERS | _EXTRA_WORDS
    beginnings = [name for name in _OTHER_SPLITS if word.startswith(name) and word[len(name) :] in endings]
    return _OTHER_SPLITS[beginnings[0]] if beginnings else None


def is_container(name: str) -> bool:
    """Return True for a name like `audio` or `wav_files`, which does not describe the clips."""
    words = set(_WORD.findall(name.lower()))
    return bool(words) and words <= _CONTAINERS


def are_splits_or_folds(names: Sequence[str]) -> bool:
    """Return True if all names are those of folds or splits, apart from common words at their beginning.

    Names with other words count if they begin or end with at least two different splits: `train_full` and
    `test_full`.
    """
    splits = set(map(split_of_name, names))
    if None not in splits and len(splits) > 1:
        return True
    words = [_WORD.findall(name.lower()) for name in names]
    if all(map(_is_split_or_fold, words)):
        return True
    while len(words) > 1 and all(len(each) > 1 for each in words) and len({each[0] for each in words}) == 1:
        words = [each[1:] for each in words]
        if all(map(_is_split_or_fold, words)):
            return True
    return False


def _is_split_or_fold(words: Sequence[str]) -> bool:
    """Return True if words are the name of a fold or split: `train`, `fold 3`, `test audio`, `dev a`."""
    words = [word for word in words if word not in _CONTAINERS]
    numbers = [word for word in words if word.isdecimal() or len(word) == 1]
    kinds = {word for word in words if word not in numbers}
    if not kinds <= _SPLITS | _FOLDS | _EXTRA_WORDS:
        return False
    return bool(kinds & _SPLITS) or (bool(kinds & _FOLDS) and bool(numbers))
