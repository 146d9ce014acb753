"""Held-out splits: draws by groups, `data.test_fraction` and `data.group_pattern`, and `ast-hf split`."""

from __future__ import annotations

import csv
import json
import random
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st

from ast_hf import cli
from ast_hf.data.drawing import draw_rows
from ast_hf.data.reading import load_audio_dataset
from ast_hf.data.splits import label_counts, label_lists, label_names
from ast_hf.errors import AstConfigError, AstDataError
from ast_hf.recipe.options import DataOptions
from ast_hf.training import Recipe, finetune, prepare
from ast_hf.training.splits import read_splits
from training.runs import Stop, digest, recipe, sound
from training.splits import contents

# ---------------------------------------------------------------- draws

NAMES = list("abcdefgh")
#: Clips as (group, labels).
CLIPS = st.lists(
    st.tuples(st.integers(0, 14), st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True)),
    min_size=2,
    max_size=80,
)


def drawn(clips: list[tuple[Any, list[int]]], seed: int = 0, **fractions: float) -> dict[str, list[int]]:
    return draw_rows(
        [labels for _, labels in clips],
        [str(group) for group, _ in clips],
        fractions,
        seed=seed,
        label_names=NAMES,
    )


@settings(deadline=None, max_examples=60)
@given(CLIPS, st.floats(0.05, 0.5), st.floats(0.05, 0.4), st.randoms(use_true_random=False))
def test_draws_keep_groups_together_and_labels_in_training(
    clips: list[tuple[int, list[int]]], test: float, validation: float, random_: random.Random
) -> None:
    """So they do in any order of the clips, where they are the same ones."""
    try:
        parts = drawn(clips, test=test, validation=validation)
    except AstDataError as problem:
        assert problem.code == "E209"  # noqa: PT017 (few groups, or each with the only clips of a label)
        return
    assert list(parts) == ["train", "test", "validation"]
    assert sorted(row for rows in parts.values() for row in rows) == list(range(len(clips)))
    assert all(parts.values())
    groups = [{clips[row][0] for row in rows} for rows in parts.values()]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert {label for row in parts["train"] for label in clips[row][1]} == {x for _, y in clips for x in y}
    order = random_.sample(range(len(clips)), len(clips))
    again = drawn([clips[row] for row in order], test=test, validation=validation)
    for name, rows in again.items():
        assert Counter(str(clips[order[row]]) for row in rows) == Counter(
            str(clips[row]) for row in parts[name]
        )


def test_rounding_does_not_depend_on_the_order_of_clips() -> None:
    """Two draws of these clips differ in their costs by less than a rounding error."""
    clips = [
        (1, [2, 3]),
        (1, [1, 3, 4]),
        (2, [3]),
        (1, [0, 1, 5]),
        (0, [0, 1, 4]),
        (1, [0]),
        (2, [0]),
        (2, [2]),
    ]
    shuffle = random.Random(0)
    for _ in range(50):
        shuffle.shuffle(clips)
        parts = drawn(clips, test=0.25, validation=0.25)
        groups = {name: {clips[row][0] for row in rows} for name, rows in parts.items()}
        assert groups == {"train": {1}, "test": {2}, "validation": {0}}


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 6), st.integers(8, 20), st.floats(0.1, 0.3), st.integers(0, 5))
def test_shares_are_met_in_every_label(labels: int, groups: int, share: float, seed: int) -> None:
    """Groups of up to 3 clips of one label: no share is off by more than a group."""
    clips = [
        ((label, group), [label])
        for label in range(labels)
        for group in range(groups)
        for _ in range(1 + (group + label) % 3)
    ]
    parts = drawn(clips, seed, test=share, validation=share)
    for name in ("test", "validation"):
        assert abs(len(parts[name]) - share * len(clips)) <= 3
        for label in range(labels):
            count = sum(clips[row][1] == [label] for row in parts[name])
            assert abs(count - share * sum(of == [label] for _, of in clips)) <= 3


def test_a_draw_is_the_same_on_every_machine() -> None:
    """A literal: a change of it changes everybody's splits."""
    clips = [(f"speaker {n % 9}", [n % 4]) for n in range(60)]
    parts = drawn(clips, test=0.2, validation=0.2)
    groups = {name: sorted({clips[row][0][-1] for row in rows}) for name, rows in parts.items()}
    assert groups == LITERAL
    other = drawn(clips, 1, test=0.2, validation=0.2)
    assert other != parts


LITERAL = {"train": ["0", "1", "2", "3", "5"], "test": ["6", "8"], "validation": ["4", "7"]}


def test_every_label_is_in_training_if_labels_are_rare() -> None:
    clips = [(n, [0] if n < 97 else [n - 96]) for n in range(100)]
    parts = drawn(clips, test=0.3, validation=0.3)
    assert {97, 98, 99} <= set(parts["train"])
    assert (len(parts["test"]), len(parts["validation"])) == (30, 30)


#: clips -> what the error says
IMPOSSIBLE: dict[str, tuple[list[tuple[Any, list[int]]], str]] = {
    "a speaker for each label": ([(n % 4, [n % 4]) for n in range(40)], "only clips of a label, such as 'a'"),
    "two speakers": (
        [(n % 2, [n % 4 // 2]) for n in range(40)],
        "2 clips cannot fill train and test and valid",
    ),
    "one clip of each": ([(n, [n]) for n in range(5)], "only clips of a label"),
}


@pytest.mark.parametrize(("clips", "text"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_impossible_draws_say_why(clips: list[tuple[Any, list[int]]], text: str) -> None:
    with pytest.raises(AstDataError, match=rf"E209\] test_fraction.*{text}"):
        drawn(clips, test=0.2, validation=0.2)


# ---------------------------------------------------------------- recipes

WORDS = ("no", "stop", "yes")
SPEAKERS = ("ann", "ben", "cat", "dan", "eve", "fay", "gus", "hal", "ida", "joe")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a table of 120 clips: 10 speakers, 3 words, 4 takes. The files are empty. Read only."""
    root = tmp_path_factory.mktemp("words")
    (root / "audio").mkdir()
    rows = [
        (f"audio/{who}_{word}_{take}.wav", word, who)
        for who in SPEAKERS
        for word in WORDS
        for take in range(4)
    ]
    for name, _, _ in rows:
        (root / name).touch()
    write_csv(root / "words.csv", ("path", "label", "speaker"), rows)
    return root / "words.csv"


def write_csv(path: Path, head: tuple[str, ...], rows: list[Any]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])
    return path


def sizes(splits: Any) -> dict[str, int]:
    """Return the number of clips of each split of a run."""
    parts = {"train": splits.train, "validation": splits.validation, **splits.evaluation}
    return {name: len(part) for name, part in parts.items() if part is not None}


BOTH: dict[str, Any] = {"test_fraction": 0.2, "validation_fraction": 0.2}


def test_a_test_split_is_held_out(words: Path) -> None:
    """By speaker, also if the paths show the speaker, and without groups word by word."""
    by_column = read_splits(DataOptions(source=str(words), validation_group="speaker", **BOTH), seed=0)
    assert sizes(by_column) == {"train": 72, "validation": 24, "test": 24}
    assert list(by_column.evaluation) == ["test"]
    speakers = [set(by_column.train["speaker"]), set(by_column.evaluation["test"]["speaker"])]
    assert by_column.validation is not None
    speakers.append(set(by_column.validation["speaker"]))
    assert sum(map(len, speakers)) == len(set.union(*speakers)) == 10
    pattern = r"([a-z]+)_[a-z]+_\d+\.wav$"
    by_path = read_splits(DataOptions(source=str(words), group_pattern=pattern, **BOTH), seed=0)
    assert contents(by_path.evaluation) == contents(by_column.evaluation)
    alone = read_splits(DataOptions(source=str(words), test_fraction=0.1), seed=0)
    assert sizes(alone) == {"train": 108, "test": 12}
    assert Counter(alone.evaluation["test"]["label"]) == {0: 4, 1: 4, 2: 4}


def test_stored_splits_are_kept(words: Path, tmp_path: Path) -> None:
    """A recipe for everybody's data: what the data have is used, and only what they lack is held out."""
    rows = list(load_audio_dataset(words)["train"])
    names = label_names(load_audio_dataset(words)["train"])

    def table(*splits: str) -> str:
        cells = [
            (row["audio"]["path"], names[row["label"]], row["speaker"], splits[number % len(splits)])
            for number, row in enumerate(rows)
        ]
        return str(write_csv(tmp_path / "table.csv", ("path", "label", "speaker", "split"), cells))

    source = table("train", "train", "validation", "train")
    splits = read_splits(DataOptions(source=source, validation_fraction=0.2), seed=0)
    assert sizes(splits) == {"train": 90, "validation": 30}
    splits = read_splits(DataOptions(source=source, validation_group="speaker", **BOTH), seed=0)
    assert (sizes(splits)["train"], sizes(splits)["validation"]) == (72, 30)
    assert list(splits.evaluation) == ["validation", "test"]
    source = table("train", "train", "test", "train")
    splits = read_splits(DataOptions(source=source, **BOTH), seed=0)
    assert sizes(splits) == {"train": 72, "validation": 18, "test": 30}
    without = read_splits(DataOptions(source=source, validation_fraction=0.2), seed=0)
    assert contents({"train": splits.train}) == contents({"train": without.train})
    source = table("train", "train", "test", "dev")
    splits = read_splits(DataOptions(source=source, validation_group="speaker", **BOTH), seed=0)
    assert sizes(splits) == {"train": 60, "validation": 30, "test": 30}


def test_rare_labels_no_longer_stop_a_run(tmp_path: Path) -> None:
    """A label with a single clip stays in training; so does each label of clips with several."""
    for name in (files := [f"{number}.wav" for number in range(20)]):
        (tmp_path / name).touch()
    rows = [(name, "rare" if name == "7.wav" else WORDS[n % 2]) for n, name in enumerate(files)]
    source = write_csv(tmp_path / "one.csv", ("path", "label"), rows)
    splits = read_splits(DataOptions(source=str(source), validation_fraction=0.2), seed=0)
    assert sizes(splits)["train"] == 16
    assert len(label_counts(splits.train)) == 3
    rows = [(name, f"all;{name}" if n % 7 == 0 else "all;b") for n, name in enumerate(files)]
    source = write_csv(tmp_path / "several.csv", ("path", "labels"), rows)
    for seed in range(4):
        options = DataOptions(source=str(source), label_separator=";", **BOTH)
        assert len(label_counts(read_splits(options, seed=seed).train)) == 5


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a stream": ({"streaming": True, "test_fraction": 0.1}, "data.test_fraction"),
    "a fold": ({"test_fold": 1, "test_fraction": 0.1}, "data.test_fraction"),
    "random folds": ({"random_folds": 5, "test_fraction": 0.1}, "data.test_fraction"),
    "too much": ({"test_fraction": 0.5, "validation_fraction": 0.5}, "data.test_fraction"),
    "all": ({"test_fraction": 1.0}, "data.test_fraction"),
    "two groups": (
        {"test_fraction": 0.1, "validation_group": "a", "group_pattern": "b"},
        "data.group_pattern",
    ),
    "no expression": ({"group_pattern": "(", "test_fraction": 0.1}, "data.group_pattern"),
}


@pytest.mark.parametrize(("options", "place"), REFUSED.values(), ids=REFUSED)
def test_contradictory_options_are_refused(options: dict[str, Any], place: str) -> None:
    with pytest.raises(AstConfigError, match=rf"E307.*{re.escape(place)}"):
        Recipe.from_dict({"data": {"source": "clips", **options}, "training": {"max_steps": 9}})


def test_a_pattern_without_held_out_clips_is_refused(words: Path) -> None:
    with pytest.raises(AstConfigError, match=r"E307.*data\.group_pattern.*nothing is held out"):
        read_splits(DataOptions(source=str(words), group_pattern="x"), seed=0)


def test_random_folds_keep_groups_of_a_pattern(words: Path) -> None:
    options = DataOptions(source=str(words), random_folds=5, test_fold=2, group_pattern=r"/([a-z]+)_[^/]*$")
    splits = read_splits(options, seed=0)
    assert not set(splits.train["speaker"]) & set(splits.evaluation["test"]["speaker"])


def test_a_run_with_a_held_out_test_split(tmp_path: Path) -> None:
    """It reports on the split, resumes to the same weights, and refuses another share."""
    (tmp_path / "clips").mkdir()
    rows = [(f"{who}_{kind}.wav", kind, who) for who in range(12) for kind in ("noise", "tone")]
    import soundfile

    for name, kind, who in rows:
        soundfile.write(tmp_path / "clips" / name, sound(kind, who), 16_000)
    table = write_csv(tmp_path / "clips" / "table.csv", ("path", "label", "who"), rows)
    data = {"test_fraction": 0.25, "validation_fraction": 0.25, "validation_group": "who"}
    report = finetune(recipe(table, {"data": data}), tmp_path / "whole")
    results = json.loads((tmp_path / "whole" / "results.json").read_text(encoding="utf-8"))
    assert results["clips"] == {"test": 6}
    assert results["training_clips"] == 12
    assert results["data_check"]["held_out"] == {"test": 6, "validation": 6}
    text = ModelCard.load(tmp_path / "whole" / "README.md").text
    assert "test (6 clips), validation (6 clips), no value of `who` in two of these or in training" in text
    trainer = prepare(recipe(table, {"data": data}), tmp_path / "halves").trainer
    trainer.add_callback(Stop(epoch=1))
    trainer.train()
    with pytest.raises(AstConfigError, match=r"E306.*data\.test_fraction was 0\.25 and is 0\.1"):
        prepare(recipe(table, {"data": {**data, "test_fraction": 0.1}}), tmp_path / "halves").trainer.train(
            resume_from_checkpoint="auto"
        )
    resumed = finetune(recipe(table, {"data": data}), tmp_path / "halves", resume_from_checkpoint="auto")
    assert resumed.results == report.results
    from safetensors.torch import load_file

    whole, halves = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "halves"))
    assert digest(whole) == digest(halves)


# ---------------------------------------------------------------- the command


def split(source: Path, output: Path, *options: str) -> int:
    return cli.main(["split", str(source), "--output", str(output), *options])


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_table_is_read_back(words: Path, tmp_path: Path, capsys: Any) -> None:
    output = words.parent / "split.csv"
    assert split(words, output, "--json", str(tmp_path / "report.json"), "--overwrite") == 0
    printed = capsys.readouterr().out
    rows = read(output)
    assert list(rows[0]) == ["path", "label", "split", "group"]
    assert all(row["path"].startswith("audio/") for row in rows)
    assert Counter(row["split"] for row in rows) == {"train": 96, "validation": 12, "test": 12}
    assert len({(row["split"], row["group"]) for row in rows}) == 10
    assert "column 'speaker': 10 groups of 12 clips" in printed
    assert "No group is in two splits." in printed
    assert f"A recipe for it: ast-hf new {output}" in printed
    assert f"Next: ast-hf finetune recipe.yaml --data {output}" in printed
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["sizes"] == {"train": 96, "validation": 12, "test": 12}
    assert report["group"] == {"group_column": "speaker"}
    found = load_audio_dataset(output)
    pairs = {pair for part in contents(found).values() for pair in part.items()}
    assert pairs == set(contents(load_audio_dataset(words))["train"].items())


def test_the_table_is_that_of_the_recipe(words: Path, tmp_path: Path) -> None:
    assert split(words, tmp_path / "a.csv", "--validation", "0.2", "--test", "0.2", "--seed", "3") == 0
    table = contents(load_audio_dataset(tmp_path / "a.csv"))
    run = read_splits(DataOptions(source=str(words), validation_group="speaker", **BOTH), seed=3)
    assert contents({"train": run.train, "validation": run.validation, **run.evaluation}) == table


def test_the_draw_does_not_depend_on_the_order_of_rows(words: Path, tmp_path: Path) -> None:
    rows = read(words)
    random.Random(0).shuffle(rows)
    other = words.parent / "shuffled.csv"
    write_csv(other, tuple(rows[0]), [tuple(row.values()) for row in rows])
    for group in ("speaker", "none"):
        for source, name in ((words, "a.csv"), (other, "b.csv")):
            assert split(source, tmp_path / name, "--group", group, "--overwrite") == 0
        assert contents(load_audio_dataset(tmp_path / "a.csv")) == contents(
            load_audio_dataset(tmp_path / "b.csv")
        )


AWKWARD = [
    'a,b "c".wav',
    "naïve ü.wav",
    " space.wav",
    "semi;colon.wav",
    "it's.wav",
    "x\ty.wav",
    "=1+1.wav",
    "ß.flac",
]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json"])
def test_awkward_names_and_labels(tmp_path: Path, suffix: str) -> None:
    labels = ["None", "(x)", "café; crème", 'say "no"', "10", "9"]
    for label in labels:
        (tmp_path / "clips" / label).mkdir(parents=True)
        for name in AWKWARD:
            (tmp_path / "clips" / label / name).touch()
    output = tmp_path / f"ta ble{suffix}"
    assert split(tmp_path / "clips", output, "--group", "none") == 0
    classes = tmp_path / "ta ble_classes.txt"
    found = load_audio_dataset(output, class_labels=classes)
    whole = load_audio_dataset(tmp_path / "clips")["train"]
    assert {name: len(part) for name, part in found.items()} == {"train": 36, "validation": 6, "test": 6}
    assert label_names(found["train"]) == label_names(whole)
    pairs = {(row["audio"]["path"], row["label"]) for part in (*found.values(),) for row in part}
    assert pairs == {(row["audio"]["path"], row["label"]) for row in whole}


def test_a_line_break_in_a_name_is_refused(tmp_path: Path, capsys: Any) -> None:
    for number in range(8):
        folder = tmp_path / "clips" / WORDS[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}{chr(10) if number == 3 else ''}.wav").touch()
    assert split(tmp_path / "clips", tmp_path / "t.csv") == 65
    assert "AST-E208" in capsys.readouterr().err
    assert not (tmp_path / "t.csv").exists()


def test_several_labels_and_times(tmp_path: Path, capsys: Any) -> None:
    """The printed command reads the labels with the separator that none of them has; audio_root is another folder."""
    (tmp_path / "sounds").mkdir()
    rows = []
    for number in range(12):
        (tmp_path / "sounds" / f"{number}.wav").touch()
        for start in range(3):
            labels = "dog|rain; heavy" if start else "cat"
            rows.append((f"{number}.wav", labels, start, start + 0.5 if start else ""))
    table = write_csv(tmp_path / "labels.csv", ("path", "labels", "start", "end"), rows)
    options = ["--label_separator", "|", "--audio_root", str(tmp_path / "sounds")]
    assert split(table, tmp_path / "out" / "t.csv", *options) == 0
    printed = capsys.readouterr().out
    assert "clips are stretches of longer files" in printed
    words_ = shlex.split(printed[printed.index("Next: ") + 6 :])
    changes = dict(word.split("=", 1) for word in words_ if word.startswith("data."))
    separator = json.loads(changes["data.label_separator"])
    found = load_audio_dataset(tmp_path / "out" / "t.csv", label_separator=separator)
    whole = load_audio_dataset(table, label_separator="|", audio_root=tmp_path / "sounds")["train"]

    def rows_of(part: Any) -> set[Any]:
        names = label_names(part)
        labels = [tuple(names[index] for index in indices) for indices in label_lists(part)]
        return set(zip([a["path"] for a in part["audio"]], labels, part["start"], part["end"], strict=True))

    assert set.union(*map(rows_of, found.values())) == rows_of(whole)
    files = [{row["audio"]["path"] for row in part} for part in found.values()]
    assert sum(map(len, files)) == 12
    assert read(tmp_path / "out" / "t.csv")[0]["path"].startswith("../sounds/")


def test_label_folders_by_a_pattern(tmp_path: Path, capsys: Any) -> None:
    for word in WORDS:
        (tmp_path / "clips" / word).mkdir(parents=True)
        for who in SPEAKERS:
            (tmp_path / "clips" / word / f"{who}-0.wav").touch()
    options = ["--group_pattern", r"([a-z]+)-\d+\.wav$", "--test", "0.3", "--validation", "0"]
    assert split(tmp_path / "clips", tmp_path / "clips.csv", *options) == 0
    rows = read(tmp_path / "clips.csv")
    assert {row["group"] for row in rows} == set(SPEAKERS)
    assert Counter(row["split"] for row in rows) == {"train": 21, "test": 9}
    assert split(tmp_path / "clips", tmp_path / "clips.csv", *options) == 65
    assert "exists" in capsys.readouterr().err
    assert (
        split(tmp_path / "clips", tmp_path / "clips.csv", *options[2:], "--group", "none", "--overwrite") == 0
    )
    assert "as --group says: clips are drawn one by one" in capsys.readouterr().out


def test_splits_of_the_data_are_kept_or_redrawn(words: Path, tmp_path: Path, capsys: Any) -> None:
    assert split(words, tmp_path / "a.csv", "--validation", "0") == 0
    assert split(tmp_path / "a.csv", tmp_path / "b.csv") == 0
    printed = capsys.readouterr().out
    assert "Kept as the data have them: test" in printed
    first, second = (contents(load_audio_dataset(tmp_path / name)) for name in ("a.csv", "b.csv"))
    assert first["test"] == second["test"]
    assert split(tmp_path / "b.csv", tmp_path / "c.csv") == 65
    assert "--redraw" in capsys.readouterr().err
    assert split(tmp_path / "b.csv", tmp_path / "c.csv", "--redraw", "--seed", "5") == 0
    assert len(contents(load_audio_dataset(tmp_path / "c.csv"))) == 3


#: options -> code and text of the error
WRONG: dict[str, tuple[list[str], str]] = {
    "share": (["--test", "1.5"], r"E108.*--test"),
    "nothing": (["--test", "0", "--validation", "0"], r"E108.*hold out 0"),
    "too much": (["--test", "0.5", "--validation", "0.5"], r"E108.*hold out 1"),
    "column": (["--group", "speakr"], r"E108.*speakr.*did you mean 'speaker'"),
    "two groups": (["--group", "speaker", "--group_pattern", "x"], r"E108.*--group_pattern"),
    "expression": (["--group_pattern", "("], r"E108.*regular expression"),
    "no match": (["--group_pattern", "zzz(.)"], r"E208.*no match"),
    "windows": (["--window_seconds", "1"], r"E108.*window_seconds"),
}


@pytest.mark.parametrize(("options", "text"), WRONG.values(), ids=WRONG)
def test_wrong_options_write_nothing(
    words: Path, tmp_path: Path, capsys: Any, options: list[str], text: str
) -> None:
    assert split(words, tmp_path / "t.csv", *options) == 65
    assert re.search(text, capsys.readouterr().err)
    assert not (tmp_path / "t.csv").exists()


def test_sources_that_are_no_files_are_refused(words: Path, tmp_path: Path, capsys: Any) -> None:
    assert split(Path("user/sounds"), tmp_path / "t.csv") == 65
    assert "E108" in (text := capsys.readouterr().err)
    assert "data.test_fraction" in text
    assert split(words, tmp_path / "t.xlsx") == 65
    assert "not the name of a table" in capsys.readouterr().err


def test_parquet_with_audio_inside_is_refused_and_with_paths_is_not(
    words: Path, tmp_path: Path, capsys: Any
) -> None:
    rows = read(words)
    import pyarrow as pa
    from pyarrow import parquet

    inside = [{"bytes": b"RIFF", "path": row["path"]} for row in rows]
    labels = [row["label"] for row in rows]
    parquet.write_table(pa.table({"audio": inside, "label": labels}), tmp_path / "inside.parquet")
    assert split(tmp_path / "inside.parquet", tmp_path / "t.csv") == 65
    assert re.search(r"E208.*holds the audio itself.*data\.test_fraction", capsys.readouterr().err)
    paths = [str(words.parent / row["path"]) for row in rows]
    speakers = [row["speaker"] for row in rows]
    parquet.write_table(
        pa.table({"path": paths, "label": labels, "speaker": speakers}), tmp_path / "paths.parquet"
    )
    assert split(tmp_path / "paths.parquet", tmp_path / "t.csv") == 0
