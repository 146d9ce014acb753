"""What groups clips: columns, stretches of files, and parts of the names of files and folders."""

from __future__ import annotations

import itertools
import os
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import INSTRUMENTS
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, Value

from ast_hf.data.grouping import find_groups, read_groups, search_groups, unique_names
from ast_hf.data.reading import load_audio_dataset
from ast_hf.errors import AstDataError

WORDS = ("bed", "cat", "down", "left", "no", "off", "on", "right", "up", "yes")
SOUNDS = ("dog", "dog_bark", "rain", "rooster", "sea_waves")
RANDOM = random.Random(0)
NUMBERS = RANDOM.sample(range(10_000, 200_000), 100)
HEXES = [f"{RANDOM.getrandbits(32):08x}" for _ in range(30)]

#: Names of files and their labels, and the group that belongs to the first one; None where nothing is to be found.
NAMES: dict[str, tuple[list[tuple[str, str]], str | None]] = {
    "ESC-50": (
        [(f"audio/{1 + n % 5}-{n}-{t}-{n % 5}.wav", str(n % 5)) for n in NUMBERS for t in "AB"],
        str(NUMBERS[0]),
    ),
    "ESC with labels": (
        [(f"{SOUNDS[n % 5]}__{1 + n % 5}-{n}-{t}.ogg", SOUNDS[n % 5]) for n in NUMBERS for t in "AB"],
        str(NUMBERS[0]),
    ),
    "Speech Commands": (
        [(f"{word}/{name}_nohash_{take}.wav", word) for name in HEXES for word in WORDS for take in (0, 1)],
        HEXES[0],
    ),
    "speaker and number": (
        [(f"speaker{who:02}_{word}_{take:02}.wav", word) for who in range(6) for word in WORDS for take in (1, 2)],
        "speaker00",
    ),
    "padded numbers": (
        [(f"{word}__{who:08}_NO_{take:02}.flac", word) for who in (1, 5, 8, 13, 17, 22, 30, 41) for word in WORDS
         for take in range(1, 6)],
        "00000001",
    ),
    "UrbanSound8K": (
        [(f"fold{1 + n % 10}/{n}-{n % 10}-0-{piece}.wav", str(n % 10)) for n in NUMBERS for piece in range(3)],
        str(NUMBERS[0]),
    ),
    "spoken digits": (
        [(f"{digit}_{who}_{take}.wav", str(digit)) for who in ("jackson", "theo", "lucas", "george", "nicolas")
         for digit in range(10) for take in range(8)],
        "jackson",
    ),
    "CREMA-D": (
        [(f"{who}_{text}_{label}_XX.wav", label) for who in range(1001, 1031) for text in ("DFA", "IEO", "IOM")
         for label in ("ANG", "HAP", "SAD")],
        "1001",
    ),
    "RAVDESS": (
        [(f"Actor_{who:02}/03-01-{label:02}-01-{text:02}-01-{who:02}.wav", str(label)) for who in range(1, 25)
         for label in range(1, 9) for text in (1, 2)],
        "Actor_01",
    ),
    "folders of speakers": (
        [(f"audio/{who}/{word}_{take}.wav", word) for who in ("anna", "ben", "carla", "dora") for word in WORDS
         for take in (1, 2)],
        "anna",
    ),
    "folders of numbers": (
        [(f"{who:02}/{digit}_{who:02}_{take}.wav", str(digit)) for who in range(1, 13) for digit in range(10)
         for take in range(3)],
        "01",
    ),
    "LibriSpeech": (
        [(f"{n}-{n + chapter}-{part:04}.flac", WORDS[part % 3]) for n in NUMBERS[:12] for chapter in (7, 9)
         for part in range(6)],
        str(NUMBERS[0]),
    ),
    "pieces of recordings": (
        [(f"{label}/[{label}][cla]{n:04}__{piece}.wav", label) for n in range(1, 20) for label in ("cel", "pia")
         for piece in (1, 2, 3)],
        "[cel][cla]0001",
    ),
    "letter and two digits": (
        [(f"{word}/s{who:02}_{word}_take{take:02}.wav", word) for who in range(1, 13) for word in WORDS
         for take in (3, 8)],
        "s01",
    ),
    "segments": ([(f"rec{n}_seg{k}.wav", SOUNDS[k % 5]) for n in range(12) for k in range(10)], "rec0"),
    "BIDS": (
        [(f"sub-{who:02}/sub-{who:02}_ses-{k}_task-{word}.wav", word) for who in range(1, 15) for k in (1, 2)
         for word in WORDS[:3]],
        "01",
    ),
    "respiration": (
        [(f"{who}_{k}b1_{place}_sc_Meditron.wav", WORDS[(who + k) % 2]) for who in range(101, 150)
         for k, place in enumerate(("Al", "Ar", "Pl"))],
        "101",
    ),
    # Nothing to be found.
    "numbers": ([(f"{label}/{n}.wav", label) for label in SOUNDS for n in range(30)], None),
    "labels and numbers": ([(f"{label}_{n:03}.wav", label) for label in SOUNDS for n in range(30)], None),
    "GTZAN": ([(f"{label}/{label}.{n:05}.wav", label) for label in WORDS for n in range(40)], None),
    "some of GTZAN": (
        [(f"{label}/{label}.{n:05}.wav", label) for label in WORDS for n in RANDOM.sample(range(100), 6)],
        None,
    ),
    "letter and a counter": (
        [(f"{label}/s{n:02}_{label}_x.wav", label) for label in SOUNDS for n in range(30)], None,
    ),
    "unique numbers": ([(f"XC{n}.ogg", SOUNDS[n % 5]) for n in NUMBERS], None),
    "styles": (
        [(f"{word}_{how}_{take}.wav", word) for word in WORDS for how in ("loud", "soft", "fast", "slow", "normal")
         for take in (1, 2)],
        None,
    ),
    "actors as numbers": (
        [(f"03-01-{label:02}-{a:02}-{b:02}-01-{who:02}.wav", str(label)) for label in range(1, 9) for a in (1, 2)
         for b in (1, 2) for who in range(1, 25)],
        None,
    ),
    "NSynth": (
        [(f"{label}_acoustic_{n:03}-{pitch:03}-{speed:03}.wav", label) for label in ("bass", "flute")
         for n in range(8) for pitch in range(40, 60) for speed in (25, 50, 75, 100, 127)],
        None,
    ),
    "shards": ([(f"{n // 10:03}/{n:06}.mp3", SOUNDS[n % 5]) for n in range(200)], None),
    "folds": ([(f"fold{1 + n % 5}/{n}.wav", SOUNDS[n % 4]) for n in range(200)], None),
    "two speakers": (
        [(f"{who}_{word}_{take}.wav", word) for who in ("OAF", "YAF") for word in WORDS for take in (1, 2)],
        None,
    ),
}  # fmt: skip


def clips(items: Sequence[tuple[str, str]], **columns: Sequence[Any]) -> Dataset:
    """Return clips of (path, label), in another order than given."""
    names = sorted({label for _, label in items})
    order = random.Random(1).sample(range(len(items)), len(items))
    features = Features(audio=Value("string"), label=ClassLabel(names=names))
    features |= {name: Value("string") for name in columns}
    rows: dict[str, list[Any]] = {"audio": [f"/data/set/{items[row][0]}" for row in order]}
    rows["label"] = [names.index(items[row][1]) for row in order]
    rows |= {name: [values[row] for row in order] for name, values in columns.items()}
    return Dataset.from_dict(rows, features=features).cast_column("audio", Audio(decode=False))


@pytest.mark.parametrize(("items", "expected"), NAMES.values(), ids=NAMES)
def test_groups_in_names(items: list[tuple[str, str]], expected: str | None) -> None:
    """The pattern finds the same groups as the search, also where the folder is elsewhere."""
    split = clips(items)
    found = find_groups(split)
    if expected is None:
        assert found is None
        return
    assert found is not None
    assert found.column is None
    row = [row["audio"]["path"] for row in split].index(f"/data/set/{items[0][0]}")
    assert found.values["train"][row] == expected
    assert found.options == {"group_pattern": found.pattern}
    assert repr(found.values["train"][0]) in found.reason
    moved = split.map(lambda row: {"audio": {"path": row["audio"]["path"].replace("/data/set", "/a_1/b-2")}})
    assert (
        read_groups(moved.cast_column("audio", Audio(decode=False)), str(found.pattern))
        == found.values["train"]
    )


PLAIN = [(f"{word}/{number}.wav", word) for word in WORDS for number in range(12)]


def column(values: Sequence[Any]) -> list[Any]:
    """Return the values in turn, for the clips of `PLAIN`."""
    return list(itertools.islice(itertools.cycle(values), len(PLAIN)))


#: columns -> the one that is found, or what is said of one that is not
COLUMNS: dict[str, tuple[dict[str, list[Any]], str | None, str]] = {
    "speaker": ({"speaker": column(["a", "b", "c", "d", "e"])}, "speaker", "5 groups"),
    "client_id": ({"client_id": column([f"{n:x}" for n in range(7)])}, "client_id", "7 groups"),
    "Speaker ID": ({"Speaker ID": column("abcdef")}, "Speaker ID", "6 groups"),
    "patientId": ({"patientId": column("abcdef")}, "patientId", ""),
    "src_file": ({"src_file": column(range(40))}, "src_file", ""),
    "fsID": ({"fsID": column(range(40))}, "fsID", ""),
    "subject before site": ({"site": column("uvwxy"), "subject": column("abcdefg")}, "subject", ""),
    "unnamed id": ({"bundle_id": column(range(11))}, "bundle_id", ""),
    "few speakers": ({"speaker": column("ab")}, None, "'speaker' has 2 values, too few"),
    "the label": (
        {"source": [word for word, _ in PLAIN]},
        None,
        "another value for every clip|one value for each",
    ),
    "by the label": ({"instrument": [label for _, label in PLAIN]}, None, "one value for each label"),
    "unique": ({"recording_id": [str(n) for n in range(len(PLAIN))]}, None, "another value for every clip"),
    "gaps": ({"speaker": column(["a", "b", None, "c", "d"])}, None, "no value for 24 of 120"),
    "one large": ({"speaker": ["a"] * 80 + column("bcdef")[:40]}, None, "'a' for 80 of 120"),
    "splits": ({"group": column(["train", "test", "dev", "val"])}, None, "names splits"),
    "age": ({"speaker_age": column(range(20, 30))}, None, ""),
    "takes": ({"take_id": column(range(10))}, None, ""),
    "rates": ({"sample_rate": column(range(10))}, None, ""),
    "ids of two": ({"file_id": column(range(119))}, None, ""),
}


@pytest.mark.parametrize(("columns", "expected", "text"), COLUMNS.values(), ids=COLUMNS)
def test_groups_in_columns(columns: dict[str, list[Any]], expected: str | None, text: str) -> None:
    search = search_groups(clips(PLAIN, **columns))
    if expected is None:
        assert search.found is None
        assert re.search(text, " ".join(search.rejected))
        return
    assert search.found is not None
    assert search.found.options == {"validation_group": expected}
    assert text in search.found.reason


def test_splits_are_searched_together() -> None:
    """A column that one of the splits lacks is none, and three speakers and three others are six."""
    parts = {"train": clips(PLAIN, speaker=column("abc")), "test": clips(PLAIN, speaker=column("def"))}
    found = find_groups(DatasetDict(parts))
    assert found is not None
    assert found.count == 6
    assert find_groups(DatasetDict(train=parts["train"], test=clips(PLAIN))) is None


def test_stretches_of_files_are_groups(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    rows = [f"{name}.wav,{WORDS[n % 2]},{n},{n + 1}" for name in "qrst" for n in range(6)]
    table.write_text("path,label,start,end\n" + "\n".join(rows) + "\n", encoding="utf-8")
    found = find_groups(load_audio_dataset(table, check_files=False))
    assert found is not None
    assert found.count == 4
    assert "stretches" in found.reason


def test_instruments_are_grouped_by_instrument() -> None:
    found = find_groups(load_audio_dataset(INSTRUMENTS, check_files=False))
    assert found is not None
    assert found.column == "group"


@pytest.mark.parametrize(("name", "column"), [("esc10", "group"), ("arabic_commands", "speaker")])
def test_groups_of_real_data(name: str, column: str) -> None:
    """Without its column, the names of the files show the same groups."""
    folder = os.environ.get("AST_HF_TEST_DATA")
    if folder is None:
        pytest.skip("AST_HF_TEST_DATA does not name a folder of data sets")
    splits = load_audio_dataset(Path(folder) / name / "manifest.csv", check_files=False)
    found = find_groups(splits)
    assert found is not None
    assert found.column == column
    by_name = find_groups(splits.remove_columns(column))
    assert by_name is not None
    assert by_name.values == found.values


def test_a_path_without_a_match_is_refused() -> None:
    with pytest.raises(AstDataError, match=r"E208.*row 1.*/data/set/.*group_pattern 'speaker"):
        read_groups(clips(PLAIN), r"speaker\d+")


def test_unique_names_depend_neither_on_the_folder_nor_on_the_order() -> None:
    split = clips(PLAIN)
    keys = unique_names(split)
    assert len(set(keys)) == len(PLAIN)
    assert unique_names(split.select(range(5, 60))) == keys[5:60]
    assert len(set(unique_names(clips([*PLAIN, *PLAIN])))) == 2 * len(PLAIN)
