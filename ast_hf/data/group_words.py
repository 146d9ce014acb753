"""Words in names of columns, folders and files that name groups of clips, count clips, or describe a sound."""

from __future__ import annotations

import re

#: Words that name groups, by what the clips of a group share, most first: who, what recording, when, where.
_WORDS = (
    ("group", "groups"),
    ("speaker", "speakers", "spk", "spkr", "talker", "client", "subject", "subj", "sub", "patient", "participant",
     "person", "user", "actor", "singer", "performer", "player", "musician", "artist", "voice", "reader", "caller",
     "individual", "animal", "volunteer", "donor", "child", "infant", "baby", "contributor", "uploader", "recordist",
     "author"),
    ("recording", "rec", "record", "source", "src", "original", "origin", "parent", "track", "song", "album", "piece",
     "video", "youtube", "yt", "ytid", "freesound", "fs", "fsid", "tape", "movie", "film", "episode", "podcast",
     "show", "dialogue", "conversation"),
    ("session", "sess", "visit", "day", "date"),
    ("instrument", "machine", "engine", "vehicle", "hive", "device", "recorder", "sensor"),
    ("site", "station", "location", "place", "room", "plot", "hospital", "city", "microphone"),
)  # fmt: skip
_RANKS = {word: rank for rank, words in enumerate(_WORDS) for word in words}

#: Words that may stand next to them in the name of a column.
NAME_QUALIFIERS = frozenset(
    ("id", "ids", "name", "code", "key", "number", "num", "no", "nr", "hash", "uuid", "file", "filename", "of", "the",
     "audio", "sound", "wav", "recorded", "by", "identifier", "url", "link")
)  # fmt: skip

#: Words of columns that number or describe clips, so that `id` next to them names no group.
COUNTED_COLUMNS = frozenset(
    ("take", "repetition", "rep", "utterance", "trial", "index", "idx", "row", "line", "clip", "segment", "slice",
     "chunk", "event", "annotation", "sentence", "prompt", "word", "phrase", "phoneme", "text", "transcript", "label",
     "class", "category", "target", "split", "fold", "sample", "rate", "duration", "length", "channel")
)  # fmt: skip

#: Words at the end of columns that identify something.
IDENTIFIERS = frozenset(("id", "ids", "uuid", "guid", "hash", "key", "identifier"))

#: Words in names of files before a number that counts clips or measures them.
COUNTING = frozenset(
    ("take", "seg", "segment", "part", "chunk", "rep", "repeat", "repetition", "no", "n", "num", "v", "ver", "t",
     "version", "try", "trial", "slice", "clip", "file", "frame", "win", "window", "utt", "utterance", "sample",
     "track", "fold", "split", "batch", "class", "cls", "label", "copy", "aug", "ch", "channel", "mic", "idx", "x",
     "snr", "khz", "hz", "db", "sec", "ms", "bpm", "vel", "pitch", "note", "key", "day", "date", "audio", "example")
)  # fmt: skip

#: Words that describe how something sounds, not who or what it is.
STYLES = frozenset(
    ("loud", "soft", "fast", "slow", "normal", "quiet", "noisy", "clean", "low", "mid", "medium", "high", "left",
     "right", "male", "female", "man", "woman", "boy", "girl", "children", "adult", "close", "near", "far", "indoor",
     "outdoor", "inside", "outside", "angry", "happy", "sad", "neutral", "calm", "fear", "disgust", "surprise",
     "acoustic", "electronic", "synthetic", "electric", "short", "long", "front", "back", "side", "nohash", "original",
     "augmented", "pitch", "stretch", "noise", "reverb", "speed", "orig", "train", "test", "valid", "validation",
     "val", "dev", "eval", "north", "south", "east", "west", "summer", "winter", "spring", "autumn", "morning",
     "noon", "evening", "night", "mono", "stereo", "bright", "dark", "muted", "open")
)  # fmt: skip

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


def words_of(name: str) -> list[str]:
    """Return the words of a name in lower case: `speakerId`, `speaker_id` and `Speaker ID` are two."""
    return [word.lower() for word in _WORD.findall(name)]


def group_word(word: str) -> int | None:
    """Return the rank of a word that names groups, 0 for the one that says most; None for another word."""
    return _RANKS.get(word)
