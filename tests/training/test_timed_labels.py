"""Labels with times: read as a reference, and as windows to train on."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import TINY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ast_hf import AstConfigError, AstDataError, AstHfError, AstHfWarning, AstInputError, load_audio
from ast_hf.data.audit import describe_data
from ast_hf.data.label_windows import separated
from ast_hf.data.splits import check_splits, label_names
from ast_hf.inputs.sampling import clip_weights
from ast_hf.recipe.recipe import Recipe
from ast_hf.timelines.events import Event
from ast_hf.timelines.formats import write_events
from ast_hf.training import (
    cross_validate,
    evaluate_checkpoints,
    finetune,
    load_audio_dataset,
    load_timed_labels,
)
from ast_hf.training.checkpoints.run_options import check_options, collect_options, save_options
from ast_hf.training.splits import read_splits
from ast_hf.training.timeline_rules import trained_rules
from training.runs import recipe

RATE = 8_000

#: Sounds of two recordings of 3 and 5 s, and a third without any.
ROWS = "path,start,end,label\na.wav,0.5,1.2,dog\na.wav,1.0,1.4,cat\nb.wav,4.2,5.05,dog\nc.wav,,,\n"

RAVEN = (
    "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tAnnotation\n"
    "1\tWaveform 1\t1\t0.5\t1.0\t0\t4000\tdog\n"
    "1\tSpectrogram 1\t1\t0.5\t1.0\t0\t4000\tdog\n"
    "2\tSpectrogram 1\t1\t1.5\t2.0\t0\t4000\tcat\n"
)


def write_recording(path: Path, seconds: float, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng([seed, len(path.name), path.name.encode()[0]]).standard_normal
    soundfile.write(path, 0.1 * noise(round(seconds * RATE)), RATE)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Return a folder of the recordings a.wav (3 s), b.wav (5 s) and c.wav (1 s)."""
    for name, seconds in (("a.wav", 3), ("b.wav", 5), ("c.wav", 1)):
        write_recording(tmp_path / name, seconds)
    return tmp_path


def table(folder: Path, text: str, name: str = "events.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def events(source: Any, **options: Any) -> dict[str, list[tuple[float, float, str]]]:
    """Return recording -> (start, end, label) of its events."""
    return {
        Path(path).name: [(event.start, event.end, event.label) for event in recording.events]
        for path, recording in load_timed_labels(source, **options).items()
    }


def windows(source: Any, split: str = "train", **options: Any) -> list[tuple[str, float, float, list[str]]]:
    """Return recording, start, end and labels of each window of a split."""
    part = load_audio_dataset(source, **{"window_seconds": 1.0, **options})[split]
    names = label_names(part)
    return [
        (Path(row["audio"]["path"]).name, row["start"], row["end"], [names[index] for index in row["labels"]])
        for row in part
    ]


# ---------------------------------------------------------------- the reference


def test_a_table_gives_the_events_of_each_recording(recordings: Path) -> None:
    found = load_timed_labels(table(recordings, ROWS))
    assert list(found) == [str(recordings / name) for name in ("a.wav", "b.wav", "c.wav")]
    assert found[str(recordings / "a.wav")] == (
        3.0,
        [Event(0.5, 1.2, "dog"), Event(1.0, 1.4, "cat")],
        "train",
    )
    assert found[str(recordings / "b.wav")].events == [Event(4.2, 5.0, "dog")]  # rounded: ends with the file
    assert found[str(recordings / "c.wav")] == (1.0, [], "train")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dcase.tsv", "filename\tonset\toffset\tevent_label\na.wav\t0.5\t1.2\tdog\n"),
        ("begin.csv", "file,begin,end,label\na.wav,0.5,1.2,dog\n"),
        ("length.csv", "path,onset,duration,label\na.wav,0.5,0.7,dog\n"),
        ("raven.csv", "Begin File,Begin Time (s),End Time (s),Species\na.wav,0.5,1.2,dog\n"),
        ("excel.csv", "path;start;end;class\na.wav;0.5;1.2;dog\n"),
        ("a.csv", "start,end,label\n0.5,1.2,dog\n"),
        ("rows.jsonl", '{"path": "a.wav", "start": 0.5, "end": 1.2, "label": "dog"}\n'),
        ("results.json", '[{"file": "a.wav", "events": [{"start": 0.5, "end": 1.2, "label": "dog"}]}]'),
        ("a.txt", "0.5\t1.2\tdog\n\\\t100\t2000\n"),
        ("a.rttm", "SPEAKER a 1 0.5 0.7 <NA> <NA> dog <NA> <NA>\n"),
    ],
)
def test_names_of_columns_and_formats(recordings: Path, name: str, text: str) -> None:
    assert events(table(recordings, text, name)) == {"a.wav": [(0.5, 1.2, "dog")]}


def test_splits_come_from_either_table_or_the_caller(recordings: Path) -> None:
    source = table(recordings, ROWS)
    listing = table(recordings, "path,split\na.wav,train\nb.wav,Val\nc.wav,test\n", "recordings.csv")
    found = load_timed_labels(source, recordings=listing)
    assert [recording.split for recording in found.values()] == ["train", "validation", "test"]
    assert list(load_timed_labels(source, recordings=listing, split="test")) == [str(recordings / "c.wav")]
    assert events(source, recordings=listing, split="val") == {"b.wav": [(4.2, 5.0, "dog")]}
    other = table(recordings, "path,start,end,label\nb.wav,1,2,cat\n", "test.csv")
    first = table(recordings, "path,start,end,label,fold\na.wav,1,2,cat,1\nc.wav,0,1,dog,2\n", "train.csv")
    by_caller = load_timed_labels({"train": first, "test": [other]})
    assert [recording.split for recording in by_caller.values()] == ["train", "train", "test"]
    by_fold = load_timed_labels(first, test_fold=2)
    assert [recording.split for recording in by_fold.values()] == ["train", "test"]


def test_a_recording_without_rows_has_no_events(recordings: Path) -> None:
    source = table(recordings, "path,start,end,label\na.wav,1,2,dog\n")
    listing = table(recordings, "path,split\nc.wav,train\na.wav,test\n", "recordings.csv")
    assert events(source, recordings=listing) == {"c.wav": [], "a.wav": [(1.0, 2.0, "dog")]}


def test_sounds_of_one_label_that_overlap(recordings: Path) -> None:
    source = table(recordings, "path,start,end,label\na.wav,1,2,dog\na.wav,1.9,2.5,dog\na.wav,1,2.8,cat\n")
    with pytest.raises(AstDataError, match=r"E208.*events.csv row 2.*'dog' from 1.9 to 2.5 s.*1 to 2 s"):
        load_timed_labels(source)
    expected = {"a.wav": [(1.0, 2.5, "dog"), (1.0, 2.8, "cat")]}
    assert events(source, merge_overlaps=True) == expected
    same = table(recordings, "path,start,end,label\na.wav,1,1.005,dog\na.wav,1,1.005,dog\n", "same.csv")
    with pytest.raises(AstDataError, match=r"E208.*same.csv row 2.*overlaps"):
        load_timed_labels(same)
    rounded = table(recordings, "path,start,end,label\na.wav,1,1.51,dog\na.wav,1.503,2,dog\n", "rounded.csv")
    assert events(rounded) == {"a.wav": [(1.0, 1.51, "dog"), (1.51, 2.0, "dog")]}


def test_labels_are_listed_dropped_or_separated(recordings: Path) -> None:
    source = table(recordings, "path,start,end,label\na.wav,1,2,dog;cat\nb.wav,1,2,cat\n")
    both = {"a.wav": [(1.0, 2.0, "cat"), (1.0, 2.0, "dog")], "b.wav": [(1.0, 2.0, "cat")]}
    assert events(source, label_separator=";") == both
    assert events(source, label_separator=";", drop_labels=["cat"]) == {
        "a.wav": [(1.0, 2.0, "dog")],
        "b.wav": [],
    }
    with pytest.raises(AstDataError, match=r"E208.*row 1.*'dog' is not one of the 2"):
        load_timed_labels(source, label_separator=";", class_labels=["cat", "owl"])


# ---------------------------------------------------------------- label files beside recordings


@pytest.mark.parametrize(
    "name", ["a.txt", "a.wav.txt", "a.labels.txt", "a.Table.1.selections.txt", "a.selections.txt"]
)
def test_label_files_beside_recordings(tmp_path: Path, name: str) -> None:
    write_recording(tmp_path / "a.wav", 3)
    write_recording(tmp_path / "deep" / "b.wav", 3)
    text = RAVEN if "selections" in name else "0.5\t1.0\tdog\n1.5\t2.0\tcat\n"
    table(tmp_path, text, name)
    table(tmp_path / "deep", "", "b.txt")
    table(tmp_path, "These are recordings.", "README.txt")
    assert events(tmp_path) == {"a.wav": [(0.5, 1.0, "dog"), (1.5, 2.0, "cat")], "b.wav": []}


def test_folders_of_label_files_have_splits_and_may_be_elsewhere(tmp_path: Path) -> None:
    for split, label in (("train", "dog"), ("test", "cat")):
        write_recording(tmp_path / "sound" / split / "a.wav", 3)
        (tmp_path / "labels" / split).mkdir(parents=True)
        table(tmp_path / "labels" / split, f"1\t2\t{label}\n", "a.txt")
    found = load_timed_labels(tmp_path / "labels", audio_root=tmp_path / "sound")
    assert {part.split: part.events[0].label for part in found.values()} == {"train": "dog", "test": "cat"}


def test_a_recording_without_a_label_file_is_not_read(recordings: Path) -> None:
    table(recordings, "1\t2\tdog\n", "a.txt")
    with pytest.warns(AstHfWarning, match=r"W205.*without a label file.*2: 'b.wav', 'c.wav'"):
        assert list(events(recordings)) == ["a.wav"]
    listing = table(recordings.parent, f"path\n{recordings}/a.wav\n{recordings}/b.wav\n", "all.csv")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert events(recordings, recordings=listing) == {"a.wav": [(1.0, 2.0, "dog")], "b.wav": []}


def test_one_selection_table_of_several_recordings(recordings: Path) -> None:
    text = RAVEN.replace("Annotation", "Begin Path\tAnnotation")
    text = text.replace("\tdog", "\tC:\\field\\a.wav\tdog").replace("\tcat", "\tC:\\field\\b.wav\tcat")
    found = events(table(recordings, text, "selections.txt"))
    assert found == {"a.wav": [(0.5, 1.0, "dog")], "b.wav": [(1.5, 2.0, "cat")]}


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("path,start,end,label\na.wav,1,3.4,dog\n", "E208", "row 1, column 'end'.*3.4 s is not within 'a.wav'"),
        ("path,start,end,label\na.wav,3,3.05,dog\n", "E208", "row 1, column 'start'.*lasts 3 s"),
        ("path,start,end,label\na.wav,-1,2,dog\n", "E208", "row 1, column 'start'.*negative"),
        ("path,start,end,label\na.wav,2,1,dog\n", "E208", "row 1.*'start' and 'end'.*not after its start"),
        ("path,start,end,label\na.wav,1,1,dog\n", "E208", "row 1.*not after its start"),
        ("path,start,end,label\na.wav,nan,2,dog\n", "E208", "row 1, column 'start'"),
        ("path,start,end,label\na.wav,1,,dog\n", "E208", "row 1, column 'end': has no end"),
        ("path,start,end,label\na.wav,0:01,2,dog\n", "E208", "row 1, column 'start'.*not hours and minutes"),
        ('path,start,end,label\na.wav,"0,5",2,dog\n', "E208", "row 1, column 'start'.*0.5"),
        ("path,start,end,label\na.wav,1,2,\n", "E208", "row 1, column 'label': has no label"),
        ("path,start,end,label\na.wav,,,dog\n", "E208", "row 1: has the label 'dog' and no times"),
        ("path,start_ms,end_ms,label\na.wav,1,2,dog\n", "E208", "in seconds"),
        ("path,label\na.wav,dog\n", "E208", "none is the start or end"),
        ("path,start,end\na.wav,1,2\n", "E208", "none is the label"),
        ("path,start,end,label\nz.wav,1,2,dog\n", "E206", "row 1, column 'path': 'z.wav' does not exist"),
        ("path,start,end,label\n", "E209", "has no rows"),
        ("path,start,end,label,split\na.wav,1,2,dog,train\na.wav,2,3,dog,test\n", "E208", "row 2.*'a.wav' is in"),
        ("path,start,end,label,split\na.wav,1,2,dog,nan\n", "E208", "row 1, column 'split'"),
    ],
)  # fmt: skip
def test_bad_tables(recordings: Path, text: str, code: str, message: str) -> None:
    source = table(recordings, text)
    for read in (load_timed_labels, lambda path: load_audio_dataset(path, window_seconds=1.0)):
        with pytest.raises(AstDataError, match=message) as raised:
            read(source)
        assert raised.value.code == code
        assert raised.value.fix


@pytest.mark.parametrize(
    ("files", "code", "message"),
    [
        ({}, "E209", "holds no recording"),
        ({"a.wv": "wvpk"}, "E209", r"holds no recording.*not read \(1 .wv\)"),
        ({"a.wav": None}, "E209", "holds 1 recordings, and no label file"),
        ({"a.wav": None, "a.txt": "1\t9\tdog\n"}, "E208", "a.txt line 1, column 'end': 9 s is not within"),
        ({"a.wav": None, "a.txt": "1\t1\tdog\n"}, "E208", "a.txt line 1.*no duration"),
        ({"a.wav": None, "a.txt": "1\t2\n"}, "E208", "a.txt line 1.*no label"),
        ({"a.wav": None, "a.txt": "1\t2\tx\n", "z.txt": "1\t2\tx\n"}, "E206", "z.txt.*no recording 'z'"),
        ({"a.wav": None, "a.txt": "1\t2\tx\n", "a.selections.txt": RAVEN}, "E208", "a.wav.*two label files"),
        ({"a.wav": None, "events.csv": ROWS}, "E209", "such as '.*events.csv'"),
    ],
)
def test_bad_folders(tmp_path: Path, files: dict[str, str | None], code: str, message: str) -> None:
    for name, text in files.items():
        if text is None:
            write_recording(tmp_path / name, 3)
        else:
            table(tmp_path, text, name)
    with pytest.raises(AstDataError, match=message) as raised:
        load_timed_labels(tmp_path)
    assert raised.value.code == code


def test_bad_tables_of_recordings(recordings: Path) -> None:
    source = table(recordings, ROWS)
    short = table(recordings, "path\na.wav\n", "short.csv")
    with pytest.raises(
        AstDataError, match=r"E208.*events.csv row 3.*'b.wav' is not in the table of recordings"
    ):
        load_timed_labels(source, recordings=short)
    missing = table(recordings, "path\na.wav\nz.wav\n", "missing.csv")
    with pytest.raises(AstDataError, match=r"E206.*missing.csv row 2.*'z.wav'"):
        load_timed_labels(source, recordings=missing)
    with pytest.raises(AstDataError, match="E206"):
        load_timed_labels(source, recordings=recordings / "none.csv")
    with pytest.raises(AstDataError, match=r"E209.*split 'tset'.*train"):
        load_timed_labels(source, split="tset")


def test_a_damaged_recording_is_named(recordings: Path) -> None:
    source = table(recordings, ROWS)
    content = (recordings / "b.wav").read_bytes()
    (recordings / "b.wav").write_bytes(content[:9_000])
    with pytest.raises(AstHfError, match=r"E202.*events.csv row 3, 'b.wav'"):
        load_timed_labels(source)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_seconds": 0}, "window_seconds: 0 is not a duration"),
        ({"window_seconds": float("nan")}, "window_seconds"),
        ({"window_seconds": "1"}, "window_seconds"),
        ({"window_seconds": 0.01}, "shorter than a frame"),
        ({"window_seconds": 6.0}, "longer than every recording; the longest lasts 5 s"),
        ({"window_seconds": 1.0, "window_hop_seconds": 0}, "window_hop_seconds: 0 is not"),
        ({"window_seconds": 1.0, "window_hop_seconds": 1.5}, "longer than the window"),
        ({"window_seconds": 1.0, "empty_windows": 1.5}, "empty_windows: 1.5 is not a share"),
        ({"window_seconds": 1.0, "min_overlap": -0.5}, "min_overlap: -0.5 is not a share"),
        ({"window_hop_seconds": 0.5}, "no effect without window_seconds"),
        ({"empty_windows": 0.5}, "no effect without window_seconds"),
        ({"recordings": "recordings.csv"}, "needs window_seconds"),
        ({"window_seconds": 1.0, "clip_boundaries": False}, "clip_boundaries"),
    ],
)
def test_bad_options_of_windows(recordings: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(AstInputError, match=message) as raised:
        load_audio_dataset(table(recordings, ROWS), **options)
    assert raised.value.code == "E108"


@pytest.mark.parametrize(
    "data",
    [
        {"window_hop_seconds": 0.5},
        {"recordings": "recordings.csv"},
        {"window_seconds": 1.0, "window_hop_seconds": 2.0},
        {"window_seconds": 0.0},
        {"window_seconds": 1.0, "empty_windows": 1.2},
        {"window_seconds": 1.0, "min_overlap": -0.1},
        {"window_seconds": 1.0, "clip_boundaries": False},
    ],
)
def test_bad_recipes(data: dict[str, Any]) -> None:
    with pytest.raises(AstConfigError, match="E307"):
        Recipe.from_dict({"data": {"source": "events.csv", **data}})


# ---------------------------------------------------------------- windows


def test_windows_have_the_labels_that_are_in_them(recordings: Path) -> None:
    assert windows(table(recordings, ROWS)) == [
        ("a.wav", 0.0, 1.0, ["dog"]),
        ("a.wav", 1.0, 2.0, ["cat", "dog"]),
        ("a.wav", 2.0, 3.0, []),
        *[("b.wav", float(start), start + 1.0, []) for start in range(4)],
        ("b.wav", 4.0, 5.0, ["dog"]),
        ("c.wav", 0.0, 1.0, []),
    ]


def test_the_last_window_ends_with_the_recording(recordings: Path) -> None:
    source = table(recordings, "path,start,end,label\na.wav,2.9,3,dog\nc.wav,0,0.1,cat\n")
    found = windows(source, window_seconds=1.25)
    assert found == [
        ("a.wav", 0.0, 1.25, []),
        ("a.wav", 1.25, 2.5, []),
        ("a.wav", 1.75, 3.0, ["dog"]),
        ("c.wav", 0.0, 1.0, ["cat"]),  # shorter than the window
    ]


def test_columns_of_windows(recordings: Path) -> None:
    source = table(recordings, "path,start,end,label,site,note\na.wav,1,2,dog,x,loud\na.wav,2,3,cat,x,far\n")
    part = load_audio_dataset(source, window_seconds=1.5)["train"]
    assert part.column_names == ["audio", "labels", "recording", "start", "end", "site"]
    row = part[0]
    assert (row["recording"], row["start"], row["end"], row["site"]) == ("a.wav", 0.0, 1.5, "x")
    assert len(load_audio(row["audio"], RATE, start=row["start"], end=row["end"])) == 1.5 * RATE


def test_a_row_is_a_clip_unless_windows_are_asked_for(recordings: Path) -> None:
    source = table(recordings, "path,start,end,label\na.wav,0.5,1.2,dog\na.wav,1.0,1.4,cat\n")
    part = load_audio_dataset(source)["train"]
    assert part["label"] == [1, 0]
    assert part["start"] == [0.5, 1.0]
    assert part["end"] == [1.2, 1.4]


@pytest.mark.parametrize(("min_overlap", "tagged"), [(0.0, [0, 1]), (0.4, [0, 1]), (0.5, [0]), (0.61, [])])
def test_a_share_of_a_sound_must_be_inside(recordings: Path, min_overlap: float, tagged: list[int]) -> None:
    source = table(recordings, "path,start,end,label\na.wav,0.7,1.2,dog\nb.wav,0,1,cat\n")
    found = windows(source, min_overlap=min_overlap)
    assert [number for number in range(3) if "dog" in found[number][3]] == tagged


def test_a_share_of_the_window_counts_for_long_sounds(recordings: Path) -> None:
    source = table(recordings, "path,start,end,label\nb.wav,0.7,4.4,dog\na.wav,0,1,cat\n")
    found = [labels for name, _, _, labels in windows(source, min_overlap=0.5) if name == "b.wav"]
    assert found == [[], ["dog"], ["dog"], ["dog"], []]


def test_windows_of_dropped_labels_alone_are_left_out(recordings: Path) -> None:
    found = windows(table(recordings, ROWS), drop_labels=["dog"])
    assert [(name, start) for name, start, _, labels in found if labels] == [("a.wav", 1.0)]
    assert ("a.wav", 0.0) not in [(name, start) for name, start, _, _ in found]
    assert ("a.wav", 2.0) in [(name, start) for name, start, _, _ in found]


@pytest.mark.parametrize(("share", "kept"), [(0.0, 0), (0.25, 3), (0.5, 6), (1.0, 13), (None, 13)])
def test_the_stated_share_of_empty_windows_is_kept(recordings: Path, share: float | None, kept: int) -> None:
    source = table(recordings, "path,start,end,label\na.wav,0,0.5,dog\nb.wav,1.5,2.5,cat\n")
    found = windows(source, window_seconds=0.5, empty_windows=share)
    assert sum(not labels for *_, labels in found) == kept
    assert sum(bool(labels) for *_, labels in found) == 3
    assert found == windows(source, window_seconds=0.5, empty_windows=share)


@given(
    lengths=st.lists(st.floats(0.3, 4.0), min_size=1, max_size=4),
    seconds=st.floats(0.1, 1.0),
    hop_share=st.floats(0.2, 1.0),
    share=st.floats(0.0, 1.0),
    seed=st.integers(0, 1_000),
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_labelled_moment_is_in_a_window_with_its_label(
    tmp_path: Path, lengths: list[float], seconds: float, hop_share: float, share: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    rows = ["path,start,end,label,split"]
    for number, length in enumerate(lengths):
        write_recording(tmp_path / f"{number}.wav", length)
        for label in "xy":
            start = random.uniform(0, 0.8 * length)
            end = start + max(random.uniform(0, length - start - 0.01), 0.01)
            rows.append(f"{number}.wav,{start:.4f},{end:.4f},{label},{'test' if number % 2 else 'train'}")
    source = table(tmp_path, "\n".join(rows) + "\n")
    seconds = min(seconds, max(lengths) - 0.01)
    options: dict[str, Any] = {"window_seconds": seconds, "window_hop_seconds": seconds * hop_share}
    thinned = load_audio_dataset(source, empty_windows=share, **options)
    for split, part in load_audio_dataset(source, **options).items():
        names = label_names(part)
        found = list(part)
        for path, recording in load_timed_labels(source, split=split).items():
            places = [row for row in found if row["audio"]["path"] == path]
            for event in recording.events:
                for moment in np.linspace(event.start + 1e-4, event.end - 1e-4, 25):
                    inside = [row for row in places if row["start"] <= moment <= row["end"]]
                    assert inside
                    assert all(names.index(event.label) in row["labels"] for row in inside)
            for row in places:
                tags = {names[index] for index in row["labels"]}
                near = [e for e in recording.events if e.start < row["end"] and e.end > row["start"]]
                assert tags == {event.label for event in near}
        empty = [row for row in found if not row["labels"]]
        kept = [row for row in thinned[split] if not row["labels"]]
        assert len(kept) == round(share * len(empty))
        assert len(thinned[split]) - len(kept) == len(found) - len(empty)


# ---------------------------------------------------------------- splits and runs


def write_tones(root: Path, count: int = 8) -> Path:
    """Write recordings of 2 s with a low and a high tone, and their table."""
    rows = ["path,start,end,label"]
    for number in range(count):
        samples = 0.01 * np.random.default_rng(number).standard_normal(2 * RATE)
        for start, label, frequency in ((0.1, "low", 500), (1.2, "high", 2_500)):
            begin = start + 0.02 * number
            place = slice(round(begin * RATE), round((begin + 0.4) * RATE))
            samples[place] += 0.3 * np.sin(2 * np.pi * frequency * np.arange(place.stop - place.start) / RATE)
            rows.append(f"{number}.wav,{begin:.2f},{begin + 0.4:.2f},{label}")
        soundfile.write(root / f"{number}.wav", samples, RATE)
    return table(root, "\n".join(rows) + "\n")


def run_options(source: Path, **data: Any) -> dict[str, Any]:
    return {
        "data": {"source": str(source), "window_seconds": 0.5, **data},
        "features": {"sampling_rate": RATE},
        "model": {"config": {**TINY, "max_length": 48}},
    }


def names_of(split: Any) -> set[str]:
    return set(split["recording"])


def test_recordings_are_held_out_whole(tmp_path: Path) -> None:
    source = write_tones(tmp_path)
    options = Recipe.from_dict(run_options(source, validation_fraction=0.25)).data
    splits = read_splits(options, seed=3)
    assert splits.validation is not None
    assert len(names_of(splits.validation)) == 2
    assert not names_of(splits.train) & names_of(splits.validation)
    assert len(splits.train) + len(splits.validation) == 8 * 4
    tested = []
    for fold in range(1, 5):
        folds = Recipe.from_dict(run_options(source, random_folds=4, test_fold=fold)).data
        parts = read_splits(folds, seed=3)
        assert not names_of(parts.train) & names_of(parts.evaluation["test"])
        tested += sorted(names_of(parts.evaluation["test"]))
    assert sorted(tested) == [f"{number}.wav" for number in range(8)]


def test_a_run_on_windows(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    source = write_tones(tmp_path / "data")
    values = run_options(source, validation_fraction=0.25, empty_windows=0.5)
    report = finetune(recipe(source, {**values, "sampling": "balanced"}), tmp_path / "run")
    assert report.to_dict()["recipe"]["data"]["window_seconds"] == 0.5
    assert "window_seconds: 0.5" in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")


@pytest.mark.long
def test_cross_validation_keeps_recordings_together(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    source = write_tones(tmp_path / "data")
    told: list[str] = []
    values = recipe(source, run_options(source), num_train_epochs=1)
    results = cross_validate(values, tmp_path / "folds", folds=2, tell=told.append)
    assert told[0] == "2 folds: random, clips of one 'recording' in one fold"
    assert [fold.clips for fold in results.folds] == [16, 16]


def test_a_damaged_recording_is_skipped_or_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    source = write_tones(tmp_path / "data")
    damaged = tmp_path / "data" / "3.wav"
    damaged.write_bytes(damaged.read_bytes()[:10_000])
    with pytest.raises(AstDataError, match=r"E202.*3\.wav.*cut off"):
        finetune(recipe(source, run_options(source)), tmp_path / "run")
    skipping = run_options(source, on_error="skip", max_skipped_fraction=0.1)
    with pytest.warns(AstHfWarning, match=r"W214.*1 clip cannot be used"):
        report = finetune(recipe(source, skipping, num_train_epochs=1), tmp_path / "run")
    assert report.to_dict()["data_check"]["skipped"] == {"train": 1}


def test_windows_longer_than_the_model_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    source = write_tones(tmp_path / "data")
    with pytest.raises(AstConfigError, match=r"E307.*data.window_seconds.*takes 0.48 s.*98 frames"):
        finetune(recipe(source, run_options(source, window_seconds=1.0)), tmp_path / "run")


def test_evaluation_refuses_windows_longer_than_the_model(recordings: Path, tiny_checkpoint: Path) -> None:
    source = table(recordings, ROWS)
    with pytest.raises(AstInputError, match=r"E108.*window_seconds.*takes 0.64 s"):
        evaluate_checkpoints(
            [str(tiny_checkpoint)], source, output_dir=recordings / "out", split="train", window_seconds=1.0
        )


def test_results_that_were_written_are_labels(recordings: Path) -> None:
    written = [(str(recordings / "a.wav"), [Event(0.5, 1.2, "=dog", 0.9)]), (str(recordings / "c.wav"), [])]
    for format, name in (
        ("csv", "out.csv"),
        ("json", "out.json"),
        ("raven", "out.txt"),
        ("parquet", "out.parquet"),
    ):
        write_events(recordings / name, written[:1] if format == "raven" else written, format)
        found = events(recordings / name)
        assert found.pop("c.wav", []) == []
        assert found == {"a.wav": [(0.5, 1.2, "=dog")]}


def test_one_class_and_silence_are_enough(tmp_path: Path) -> None:
    source = write_tones(tmp_path)
    splits = load_audio_dataset(source, window_seconds=0.5, drop_labels=["low"])
    check_splits(splits, "train", [])
    labelled = load_audio_dataset(source, window_seconds=0.5, drop_labels=["low"], empty_windows=0.0)
    with pytest.raises(AstDataError, match=r"E209.*nothing to classify"):
        check_splits(labelled, "train", [])


def test_balanced_sampling_draws_clips_without_a_label() -> None:
    weights = clip_weights([[0], [], [0], []])
    assert weights[0] == weights[1] == weights[2] == weights[3]
    assert list(clip_weights([[0], [1], [0]])) == [1000 / 2.01, 1000 / 1.01, 1000 / 2.01]


def test_a_checkpoint_of_an_older_version_lacks_these_options(tmp_path: Path) -> None:
    source = write_tones(tmp_path)
    values = Recipe.from_dict({"data": {"source": str(source)}})
    options = collect_options(values, {}, read_splits(values.data, seed=0))
    new = ("window_seconds", "window_hop_seconds", "empty_windows", "min_overlap", "recordings")
    older = {name: value for name, value in options.items() if name.removeprefix("data.") not in new}
    assert len(options) - len(older) == 4  # the table of recordings is a path, which is not compared
    save_options(tmp_path, older, [])
    assert check_options(tmp_path, options, is_explicit=False) == []
    with pytest.raises(AstConfigError, match=r"E306.*data.window_seconds was None"):
        check_options(tmp_path, {**options, "data.window_seconds": 0.5}, is_explicit=False)


def test_the_report_counts_windows_and_seconds(tmp_path: Path) -> None:
    splits = load_audio_dataset(write_tones(tmp_path), window_seconds=0.5)
    report = describe_data(splits, RATE, max_length=48, num_mel_bins=32)
    part = report.splits["train"]
    assert (part.clips, part.recordings, part.unlabelled) == (
        32,
        8,
        part.clips - sum(map(bool, splits["train"]["labels"])),
    )
    assert part.label_seconds == {name: 0.5 * count for name, count in part.labels.items()}
    text = "\n".join(report.lines())
    assert "train: 32 windows of 8 recordings" in text
    assert f"no label  {part.unlabelled}" in text


def test_empty_windows_are_left_out_at_even_distances(tmp_path: Path) -> None:
    write_recording(tmp_path / "a.wav", 13)
    source = table(tmp_path, "path,start,end,label\na.wav,0,1,dog\n")
    kept = [start for _, start, _, labels in windows(source, empty_windows=0.25) if not labels]
    assert kept == [3.0, 7.0, 11.0]


@pytest.mark.skipif(
    "AST_HF_TEST_DATA" not in os.environ, reason="AST_HF_TEST_DATA names no folder of data sets"
)
def test_real_recordings() -> None:
    folder = Path(os.environ["AST_HF_TEST_DATA"]) / "birdsong"
    source, listing = folder / "events.csv", folder / "recordings.csv"
    found = load_timed_labels(source, recordings=listing)
    assert len(found) == 135
    assert sum(len(recording.events) for recording in found.values()) == 7_652
    splits = load_audio_dataset(source, recordings=listing, window_seconds=0.5, window_hop_seconds=0.25)
    parts = [names_of(part) for part in splits.values()]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 135


# ---------------------------------------------------------------- labels at the middle of windows


def test_windows_may_have_the_labels_of_their_middle(recordings: Path) -> None:
    source = table(
        recordings, "path,start,end,label\na.wav,0.5,0.8,dog\na.wav,0.75,1.3,cat\nb.wav,0,0.4,dog\n"
    )
    found = windows(source, window_seconds=0.5, window_hop_seconds=0.25, window_labels="centre")
    labels = {start + 0.25: tags for name, start, _, tags in found if name == "a.wav"}
    assert labels[0.25] == []
    assert labels[0.5] == ["dog"]  # a start is inside
    assert labels[0.75] == ["cat", "dog"]
    assert labels[1.25] == ["cat"]
    assert labels[1.5] == []


def test_sounds_of_a_label_are_kept_apart() -> None:
    near = [Event(1.0, 1.1, "a"), Event(1.104, 1.2, "a"), Event(1.2, 1.21, "b"), Event(1.21, 1.3, "a")]
    parted = separated(near)
    assert [event.label for event in parted] == ["a", "a", "b", "a"]
    assert parted[0][:2] == pytest.approx((1.0, 1.092))
    assert parted[1][:2] == pytest.approx(
        (1.112, 1.195)
    )  # 10 ms to the next, so that 5 ms are missing at either end
    assert parted[2] == near[2]
    assert parted[3][:2] == pytest.approx((1.215, 1.3))
    assert separated([Event(0, 0.01, "a"), Event(0.01, 0.02, "a")]) == [
        Event(0, 0.0075, "a"),
        Event(0.0125, 0.02, "a"),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_labels": "centre"}, "no effect without window_seconds"),
        ({"window_seconds": 1.0, "window_labels": "center"}, "'centre'"),
        ({"window_seconds": 1.0, "window_labels": "centre", "min_overlap": 0.5}, "min_overlap"),
    ],
)
def test_bad_options_of_labels_at_the_middle(recordings: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(AstInputError, match=message) as raised:
        load_audio_dataset(table(recordings, ROWS), **options)
    assert raised.value.code == "E108"


@pytest.mark.parametrize(
    ("data", "augmentation", "where"),
    [
        ({"window_labels": "center"}, {}, "window_labels"),
        ({"min_overlap": 0.5}, {}, "min_overlap"),
        ({}, {"roll_frames": 5}, "roll_frames"),
        ({}, {"speed": 1.1}, "speed"),
        ({}, {"delay_seconds": 0.1}, "delay_seconds"),
    ],
)
def test_recipes_that_contradict_labels_at_the_middle(
    data: dict[str, Any], augmentation: dict[str, Any], where: str
) -> None:
    values = {"source": "events.csv", "window_seconds": 0.5, "window_labels": "centre", **data}
    with pytest.raises(AstConfigError, match=where) as raised:
        Recipe.from_dict({"data": values, "augmentation": augmentation})
    assert raised.value.code == "E307"


def test_a_model_of_labels_at_the_middle_stores_the_rules_that_suit_it(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    source = write_tones(tmp_path / "data")
    values = run_options(source, validation_fraction=0.25, window_labels="centre", window_hop_seconds=0.25)
    finetune(recipe(source, values, num_train_epochs=1), tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "config.json").read_text(encoding="utf-8"))["timeline"]
    assert stored == {
        "window_seconds": 0.5,
        "hop_seconds": 0.02,
        "mean": "centre",
        "min_seconds": 0.02,
        "gap_seconds": 0.0,
    }
    assert trained_rules(Recipe.from_dict(run_options(source)).data) is None
