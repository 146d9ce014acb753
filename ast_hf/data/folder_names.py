"""Names of folders: splits, folds, containers of clips, or labels."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .conventions import SPLIT_NAMES

#: Words in the names of folders that are splits, of folds (with a number or a letter after them), and beside both.
_SPLITS = frozenset({*SPLIT_NAMES, "devel", "development", "evaluation", "holdout", "heldout"})


_FOLDS = frozenset({"fold", "split"})


_BESIDE = frozenset({"set", "part", "partition", "subset", "chunk", "shard", "section"})


#: Other words for splits, and names that are short for one.
_OTHER_SPLITS = SPLIT_NAMES | {
    "devel": "validation", "development": "validation", "evaluation": "test", "holdout": "test", "heldout": "test",
    "trainval": "train", "traindev": "train",
}  # fmt: skip


_SHORT_SPLITS = {"tr": "train", "trn": "train", "va": "validation", "te": "test", "ts": "test", "tst": "test"}


#: Words that say of a folder only that clips lie in it.
_CONTAINERS = frozenset(
    {"audio", "audios", "wav", "wavs", "flac", "mp3", "ogg", "clip", "clips", "sound", "sounds", "recording"}
    | {"recordings", "data", "dataset", "file", "files", "sample", "samples", "segment", "segments"}
)


_WORD = re.compile(r"[a-z]+|\d+")


_CAMEL_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


def _spelled_split(name: str) -> str | None:
    """Return the split that a folder's name begins or ends with, None for another: `trainA`, `test_full`, `te`."""
    if name.lower() in _SHORT_SPLITS:
        return _SHORT_SPLITS[name.lower()]
    words = [word.lower() for word in _CAMEL_WORD.findall(name)]
    kinds = [word for word in words if word not in _CONTAINERS | _BESIDE and not word.isdecimal() and len(word) > 1]
    return (_split_of_word(kinds[0]) or _split_of_word(kinds[-1])) if kinds else None


def _split_of_word(word: str) -> str | None:
    """Return the split of a word such as `train` or `trainset`."""
    if word in _OTHER_SPLITS:
        return _OTHER_SPLITS[word]
    begun = [name for name in _OTHER_SPLITS if word.startswith(name) and word[len(name) :] in _CONTAINERS | _BESIDE]
    return _OTHER_SPLITS[begun[0]] if begun else None


def _is_container(name: str) -> bool:
    words = set(_WORD.findall(name.lower()))
    return bool(words) and words <= _CONTAINERS


def _are_parts(names: Sequence[str]) -> bool:
    """Return whether all names are those of folds or splits, what they begin with in common aside.

    Names that only begin or end with a split's count where there are two splits: `train_full` and `test_full`.
    """
    spelled = set(map(_spelled_split, names))
    if None not in spelled and len(spelled) > 1:
        return True
    words = [_WORD.findall(name.lower()) for name in names]
    if all(map(_is_part, words)):
        return True
    while len(words) > 1 and all(len(each) > 1 for each in words) and len({each[0] for each in words}) == 1:
        words = [each[1:] for each in words]
        if all(map(_is_part, words)):
            return True
    return False


def _is_part(words: Sequence[str]) -> bool:
    """Return whether words make the name of a fold or split: `train`, `fold 3`, `test audio`, `dev a`."""
    plain = [word for word in words if word not in _CONTAINERS]
    numbers = [word for word in plain if word.isdecimal() or len(word) == 1]
    kinds = [word for word in plain if word not in numbers]
    if not set(kinds) <= _SPLITS | _FOLDS | _BESIDE:
        return False
    return bool(set(kinds) & _SPLITS) or (bool(set(kinds) & _FOLDS) and bool(numbers))
