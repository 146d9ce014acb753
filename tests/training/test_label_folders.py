"""Data sets as they are downloaded: folders that are not labels, tables next to them, audio in another folder.

The fix of each message is applied, and then reads the data.
"""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from conftest import ROOT

from ast_hf import AstDataError, ASTFeatureExtractor, AstHfError, AstHfWarning, cli
from ast_hf.data.folder_names import are_splits_or_folds
from ast_hf.data.label_cells import _COLLECTION, parse_label_list
from ast_hf.data.splits import label_names
from ast_hf.training import ClipInputs, load_audio_dataset, load_recipe
from ast_hf.training.splits import read_data
from training.splits import contents


def wav(path: Path, samples: int = 8_000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.sin(np.arange(samples) / 5) / 2, 16_000)


def written(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def warned(record: pytest.WarningsRecorder) -> list[str]:
    return [str(one.message) for one in record if one.category is AstHfWarning]


def refused(source: Any, code: str = "E208", **options: Any) -> AstHfError:
    with pytest.raises(AstDataError) as caught:
        load_audio_dataset(source, **options)
    assert caught.value.code == code
    return caught.value


def followed(fix: str) -> tuple[Any, dict[str, Any]]:
    """Return the source and the options that a message names; None as the source if it does not change."""
    match = re.search(r"as the source, '([^']+)'|give '([^']+)' as the source", fix)
    source: Any = None
    if "finetune takes --set 'data.source=" in fix:
        source = yaml.safe_load(pasted(fix)[0].partition("=")[2])
    elif match:
        source = match[1] or match[2]
    options: dict[str, Any] = dict(re.findall(r"(\w+)='([^']*)'", re.split(r"\((?:--|stats)", fix)[0]))
    return source, options | ({"clip_boundaries": False} if "clip_boundaries=False" in fix else {})


def pasted(fix: str) -> list[str]:
    """Return the overrides that a message gives for finetune, parsed like a shell."""
    line = re.search(r"finetune takes (--set .*?)\)(?=[;,.]|$| reads| for)", fix)
    assert line is not None
    return [word for word in shlex.split(line[1]) if word != "--set"]


def read_by_recipe(fix: str, *changes: str) -> dict[str, list[str]]:
    """Return split -> label names of its clips, read by a recipe with the overrides of a message."""
    recipe = load_recipe(ROOT / "examples" / "recipes" / "finetune.yaml", [*changes, *pasted(fix)])
    splits = read_data(recipe.data)
    return {split: [label_names(rows)[label] for label in rows["label"]] for split, rows in splits.items()}


def read(fix: str, **more: Any) -> dict[str, dict[str, Any]]:
    """Return split -> file name -> label or labels, after applying the fix of a message."""
    source, options = followed(fix)
    return contents(load_audio_dataset(source, **options, **more))


# ---------------------------------------------------------------- as they are downloaded


def urban(root: Path) -> Path:
    """Create UrbanSound8K: a table of files in ten folders, with times in recordings that are not included."""
    rows = ["slice_file_name,fsID,start,end,salience,fold,classID,class"]
    for fold in range(1, 11):
        for number, kind in enumerate(("dog_bark", "siren")):
            name = f"1000{fold}-{number}-0-0.wav"
            wav(root / "audio" / f"fold{fold}" / name)
            rows.append(f"{name},1000{fold},5{number}.5,5{number}.9,1,{fold},{number},{kind}")
    written(root / "metadata" / "UrbanSound8K.csv", *rows)
    return root


def esc50(root: Path) -> Path:
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in (1, 2):
        for number, kind in enumerate(("dog", "rain")):
            wav(root / "audio" / f"{fold}-1000-A-{number}.wav")
            rows.append(f"{fold}-1000-A-{number}.wav,{fold},{number},{kind},True,1000,A")
    written(root / "meta" / "esc50.csv", *rows)
    written(root / "tests" / "test_dataset.py", "")
    return root


def fsd50k(root: Path) -> Path:
    """Create FSD50K: names without suffixes, a table for each part, and several labels per clip."""
    for part, first in (("dev", 64_760), ("eval", 37_199)):
        rows = ["fname,labels,mids"]
        for number in range(first, first + 3):
            wav(root / f"FSD50K.{part}_audio" / f"{number}.wav")
            rows.append(f'{number},"Bark,Dog","/m/05tny_,/m/0bt9lr"')
        written(root / "FSD50K.ground_truth" / f"{part}.csv", *rows)
    written(root / "FSD50K.ground_truth" / "vocabulary.csv", "0,Bark,/m/05tny_", "1,Dog,/m/0bt9lr")
    return root


def common_voice(root: Path) -> Path:
    for split, numbers in {"train": "012", "dev": "3", "test": "45"}.items():
        rows = ["client_id\tpath\tgender"]
        for number in numbers:
            wav(root / "clips" / f"common_voice_{number}.wav")
            rows.append(f"x\tcommon_voice_{number}.wav\t{'female' if int(number) % 2 else 'male'}")
        written(root / f"{split}.tsv", *rows)
    return root


def split_tables(root: Path) -> Path:
    """Create folders of splits with a table in each, under a name that `datasets` does not read."""
    for split in ("train", "test"):
        rows = ["file_name,label"]
        for number, kind in enumerate(("cat", "dog")):
            wav(root / split / f"{number}.wav")
            rows.append(f"{number}.wav,{kind}")
        written(root / split / "labels.csv", *rows)
    return root


TWO = ("dog_bark", "siren")
URBAN = {f"1000{fold}-{number}-0-0.wav": TWO[number] for fold in range(1, 11) for number in (0, 1)}
ESC = {f"{fold}-1000-A-{number}.wav": ("dog", "rain")[number] for fold in (1, 2) for number in (0, 1)}
#: layout -> source, options that cannot be inferred, part of the message, splits after applying the fix
DOWNLOADED: dict[str, tuple[Callable[[Path], Path], str, dict[str, Any], str, dict[str, Any]]] = {
    "UrbanSound8K": (
        urban,
        ".",
        {},
        "'fold1', 'fold10', 'fold2' and 7 more, which are folds",
        {"train": URBAN},
    ),
    "its audio": (
        urban,
        "audio",
        {},
        "'fold1', 'fold10', 'fold2' and 7 more, which are folds",
        {"train": URBAN},
    ),
    "ESC-50": (esc50, ".", {}, "has its clips in 'audio', which does not name labels", {"train": ESC}),
    "FSD50K": (
        fsd50k,
        ".",
        {"label_separator": ","},
        "'FSD50K.dev_audio', 'FSD50K.eval_audio', which are folds or splits",
        {
            "train": {f"{number}.wav": ["Bark", "Dog"] for number in (64_760, 64_761, 64_762)},
            "test": {f"{number}.wav": ["Bark", "Dog"] for number in (37_199, 37_200, 37_201)},
        },
    ),
    "Common Voice": (
        common_voice,
        ".",
        {"label_column": "gender"},
        "has its clips in 'clips'",
        {
            "train": {f"common_voice_{n}.wav": ("male", "female")[n % 2] for n in (0, 1, 2)},
            "validation": {"common_voice_3.wav": "female"},
            "test": {f"common_voice_{n}.wav": ("male", "female")[n % 2] for n in (4, 5)},
        },
    ),
    "tables in splits": (
        split_tables,
        ".",
        {},
        "'test', 'train', which are folds or splits",
        {split: {"0.wav": "cat", "1.wav": "dog"} for split in ("train", "test")},
    ),
}


@pytest.mark.parametrize(
    ("make", "place", "more", "message", "expected"), DOWNLOADED.values(), ids=DOWNLOADED
)
@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
def test_a_downloaded_folder_is_refused_with_the_options_that_read_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Any,
    place: str,
    more: Any,
    message: str,
    expected: Any,
    relative: bool,
) -> None:
    root = make(tmp_path / "set")
    monkeypatch.chdir(root / place)
    problem = refused("." if relative else root / place)
    assert message in problem.what
    assert read(problem.fix, **more) == expected
    source = followed(problem.fix)[0]
    changes = [f"data.source={source}"] * isinstance(source, str) + [
        f"data.{name}={v!r}" for name, v in more.items()
    ]
    changes += pasted(problem.fix) if "finetune takes" in problem.fix else []
    recipe = load_recipe(ROOT / "examples" / "recipes" / "finetune.yaml", changes)
    assert {split: len(rows) for split, rows in read_data(recipe.data).items()} == {
        split: len(rows) for split, rows in expected.items()
    }


def test_a_missing_label_column_is_asked_for(tmp_path: Path) -> None:
    fix = refused(common_voice(tmp_path)).fix
    assert "the column of its labels (one of client_id, gender) with label_column= (--label_column, " in fix


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("source", ["meta/esc50.csv", "esc50.csv"])
def test_a_table_next_to_its_audio_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: bool, source: str
) -> None:
    root = esc50(tmp_path / "ESC-50-master")
    monkeypatch.chdir(root if "/" in source else root / "meta")
    problem = refused(source, "E206", check_files=check)
    assert "'1-1000-A-0.wav' does not exist (4 rows: 1, 2, 3 and 1 more)" in problem.what
    options = followed(problem.fix)[1]
    splits = load_audio_dataset(source, **options, check_files=check, test_fold=1)
    assert {split: len(rows) for split, rows in splits.items()} == {"test": 2, "train": 2}


def test_stats_of_a_table_next_to_its_audio_folder(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    table = str(esc50(tmp_path) / "meta" / "esc50.csv")
    assert cli.main(["stats", table]) == 65
    stderr = capsys.readouterr().err
    assert "E206" in stderr
    flags = re.search(r"\((--[^;]+); finetune takes (--set [^)]+)\)", stderr)
    assert flags is not None
    assert cli.main(["stats", table, *flags[1].split()]) == 0
    assert "4 clips" in capsys.readouterr().out
    changes = [word for word in shlex.split(flags[2]) if word != "--set"]
    recipe = load_recipe(ROOT / "examples" / "recipes" / "finetune.yaml", [f"data.source={table}", *changes])
    assert len(read_data(recipe.data)["train"]) == 4


def test_clip_boundaries_false_ignores_times_of_other_files(
    tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture
) -> None:
    path = urban(tmp_path) / "metadata" / "UrbanSound8K.csv"
    written(path, *path.read_text().replace("dog_bark", "dog").replace("siren", "cat").splitlines())
    table = [str(path), "--audio_root", str(tmp_path / "audio"), "--audio_column", "slice_file_name"]
    evaluate = [
        "evaluate",
        str(tiny_checkpoint),
        *table,
        "--split",
        "train",
        "--output",
        str(tmp_path / "out"),
    ]
    for command in (["stats", *table], evaluate):
        assert cli.main(command) == 65
        stderr = capsys.readouterr().err
        flags = re.search(r"E208.*\((--clip_boundaries \w+); ", stderr)
        assert flags is not None, stderr
        assert cli.main([*command, *flags[1].split()]) == 0
        changes = [
            f"data.source={path}",
            f"data.audio_root={tmp_path / 'audio'}",
            "data.audio_column=slice_file_name",
        ]
        assert sorted(read_by_recipe(stderr, *changes)["train"]) == ["cat"] * 10 + ["dog"] * 10
        recipe = load_recipe(ROOT / "examples" / "recipes" / "finetune.yaml", [*changes, *pasted(stderr)])
        assert "start" not in read_data(recipe.data)["train"].column_names
    with pytest.raises(SystemExit):
        cli.main(["stats", *table, "--clip_boundaries", "maybe"])


def test_the_column_of_files_is_named(tmp_path: Path) -> None:
    table = urban(tmp_path) / "metadata" / "UrbanSound8K.csv"
    fix = refused(table).fix
    assert followed(fix) == (None, {"audio_column": "slice_file_name"})
    fix = refused(table, "E206", audio_column="slice_file_name").fix
    assert followed(fix) == (None, {"audio_root": str(tmp_path / "audio"), "clip_boundaries": False})


def test_boundaries_of_other_files_name_the_option_when_they_are_read(tmp_path: Path) -> None:
    table = urban(tmp_path) / "metadata" / "UrbanSound8K.csv"
    train = load_audio_dataset(table, audio_root=tmp_path / "audio", audio_column="slice_file_name")["train"]
    with pytest.raises(AstHfError, match=r"E208.*row 1, .*lasts 0\.500 s.*--clip_boundaries false"):
        ClipInputs(train, ASTFeatureExtractor(max_length=64, num_mel_bins=32)).waveform(0)


# ---------------------------------------------------------------- folders


#: files -> part of the message, and the beginning of its fix
NO_LABELS: dict[str, tuple[list[str], str, str]] = {
    "splits": (["train/1.wav", "test/2.wav"], "'test', 'train'", "put a folder for each label"),
    "one split": (["train/1.wav"], "'train'", "put a folder for each label"),
    "folds above labels": (
        ["fold1/cat/1.wav", "fold2/dog/2.wav"],
        "'fold1', 'fold2'",
        "put a folder for each label",
    ),
    "splits below labels": (
        ["cat/train/1.wav", "dog/test/2.wav"],
        "'test', 'train'",
        "put a folder for each label",
    ),
    "folds of a split": (["train/fold 1/1.wav", "test/fold 2/2.wav"], "'fold 1', 'fold 2'", "put a folder"),
    "parts of a name": (
        ["nsynth-train/audio/1.wav", "nsynth-test/audio/2.wav"],
        "'nsynth-test'",
        "put a folder",
    ),
    "splits in a folder": (["audio/train/cat/1.wav", "audio/test/dog/2.wav"], "'test', 'train'", "give '"),
}


@pytest.mark.parametrize(("files", "message", "fix"), NO_LABELS.values(), ids=NO_LABELS)
def test_folds_and_splits_are_refused_as_labels(
    tmp_path: Path, files: list[str], message: str, fix: str
) -> None:
    for file in files:
        wav(tmp_path / file)
    problem = refused(tmp_path)
    assert message in problem.what
    assert problem.fix.startswith(fix)
    names = (
        ["fold 1", "fold 2"]
        if "fold 1" in problem.what
        else sorted({str(Path(file).parent) for file in files})
    )
    splits = load_audio_dataset(tmp_path, class_labels=names)
    assert {tuple(label_names(rows)) for rows in splits.values()} == {tuple(names)}


#: files -> part of the message, and the labels of each split after applying its fix
SPLITS: dict[str, tuple[list[str], str, dict[str, list[str]]]] = {
    "flat test": (
        ["train/cat/1.wav", "train/dog/2.wav", "test/3.wav"],
        "'test' without",
        {"train": ["cat", "dog"]},
    ),
    "flat validation": (
        ["train/cat/1.wav", "train/dog/2.wav", "test/cat/3.wav", "validation/4.wav"],
        "'validation' without",
        {"train": ["cat", "dog"], "test": ["cat"]},
    ),
    "others next to them": (
        ["valid/a/1.wav", "invalid/b/2.wav"],
        "'invalid', not named",
        {"validation": ["a"]},
    ),
    "classes": (
        ["train/s1/1.wav", "train/s2/2.wav", "bus/s1/3.wav", "car/s1/4.wav"],
        "'bus', 'car', not named",
        {"train": ["s1", "s2"]},
    ),
    "nested": (
        ["train/train/cat/1.wav", "train/train/dog/2.wav", "test/test/cat/3.wav"],
        "'test', 'train'",
        {"train": ["cat", "dog"], "test": ["cat"]},
    ),
    "spelled": (
        ["trainA/cat/1.wav", "trainB/dog/2.wav", "testA/cat/3.wav"],
        "'testA'",
        {"train": ["cat", "dog"], "test": ["cat"]},
    ),
    "short": (
        ["tr/cat/1.wav", "va/dog/2.wav", "te/cat/3.wav"],
        "'te'",
        {"train": ["cat"], "validation": ["dog"], "test": ["cat"]},
    ),
}


@pytest.mark.parametrize("folder", ["set", "my set, v1", "a: b # {c}", "quo'te"])
@pytest.mark.parametrize(("files", "message", "expected"), SPLITS.values(), ids=SPLITS)
def test_splits_that_are_read_after_the_message(
    tmp_path: Path, files: list[str], message: str, expected: dict[str, list[str]], folder: str
) -> None:
    for file in files:
        wav(tmp_path / folder / file)
    problem = refused(tmp_path / folder)
    assert message in problem.what
    assert {split: sorted(labels) for split, labels in read_by_recipe(problem.fix).items()} == expected
    assert "stats and evaluate take one of them at a time" in problem.fix


def test_a_nested_folder_of_one_split_is_read_from_there(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        wav(tmp_path / "set" / "train" / "train" / label / f"{label}.wav")
    problem = refused(tmp_path / "set")
    assert followed(problem.fix)[0] == str(tmp_path / "set" / "train")
    assert read(problem.fix) == {"train": {"cat.wav": "cat", "dog.wav": "dog"}}


@pytest.mark.parametrize("classes", [["train", "bus"], ["train/s1", "bus/s1"]])
def test_class_labels_accept_folders_named_like_splits(tmp_path: Path, classes: list[str]) -> None:
    for file in ("train/s1/1.wav", "bus/s1/2.wav"):
        wav(tmp_path / "set" / file)
    assert (
        "if 'bus', 'train' are your classes, list all classes in a text file" in refused(tmp_path / "set").fix
    )
    splits = load_audio_dataset(tmp_path / "set", class_labels=written(tmp_path / "classes.txt", *classes))
    assert {split: label_names(rows) for split, rows in splits.items()} == {"train": classes}
    assert sorted(splits["train"]["label"]) == [0, 1]


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["train", "bus", "car"], ["bus", "car", "train"]),
        (["train/train", "train/bus", "test/train", "test/bus"], ["bus", "train"]),
        (["train/cat", "test/cat", "_background_noise_"], ["_background_noise_", "cat"]),
        (["cat", "dog", "dog/.ipynb_checkpoints"], ["cat", "dog"]),
        (["part a", "part b"], ["part a", "part b"]),
    ],
)
def test_folders_that_are_read_as_they_are(tmp_path: Path, folders: list[str], names: list[str]) -> None:
    for folder in folders:
        wav(tmp_path / "set" / folder / "1.wav")
    assert label_names(load_audio_dataset(tmp_path / "set")["train"]) == names


def test_names_that_several_labels_share_get_no_audio_root(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        wav(tmp_path / "audio" / label / "1.wav")
    table = written(tmp_path / "meta" / "x.csv", "path,label", "1.wav,cat", "1.wav,dog")
    fix = refused(table, "E206").fix
    assert ("audio_root" in fix, "write their paths relative to the table" in fix) == (False, True)
    with pytest.warns(AstHfWarning, match="W205") as record:
        load_audio_dataset(tmp_path)
    assert "audio_root" not in str(record[0].message)


@pytest.mark.parametrize("place", ["data/{split}-0000{shard}-of-00002", "small/{split}/000{shard}"])
def test_shards_of_splits_are_named(tmp_path: Path, place: str) -> None:
    from datasets import Dataset

    for split, label in (("train", "cat"), ("test", "dog")):
        for shard in (0, 1):
            wav(tmp_path / "clip.wav")
            path = tmp_path / "set" / f"{place.format(split=split, shard=shard)}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            Dataset.from_dict({"path": [str(tmp_path / "clip.wav")], "label": [label]}).to_parquet(path)
    fix = refused(tmp_path / "set", "E209").fix
    assert read_by_recipe(fix) == {"train": ["cat", "cat"], "test": ["dog", "dog"]}


def test_splits_in_a_folder_are_read_from_there(tmp_path: Path) -> None:
    for split in ("train", "dev"):
        wav(tmp_path / "set" / "audio" / split / "cat" / f"{split}.wav")
    assert read(refused(tmp_path / "set").fix) == {
        "train": {"train.wav": "cat"},
        "validation": {"dev.wav": "cat"},
    }


PARTS = {
    "train test": True, "Train Validation": True, "training_set test_set": True, "fold1 fold02": True, "split-a": True,
    "fold_1 fold_2": True, "fold 1, fold 2": True,
    "trainA trainB testA": True, "train_full test_full": True, "tr va te": True, "trainval test": True,
    "train_clean test_clean": True, "trainwav testwav": True, "train_curated train_noisy test": True,
    "audio_train audio_test": True, "dev_wavs": True, "X.dev X.eval": True, "set 1, set 2": False, "cv1 cv2": False,
    "part a, part b": False, "section_1 section_2": False, "test_positive test_negative": False, "tr bus": False,
    "cat dog": False, "train bus": False, "trainer tester": False, "part whole": False, "set": False, "1 2": False,
    "audio": False, "siren 1, siren 2": False, "train horn, train whistle": False, "dev-clean dev-other": False,
    "é à": False, "a b": False,
}  # fmt: skip


@pytest.mark.parametrize(("names", "parts"), PARTS.items())
def test_names_of_folds_and_splits(names: str, parts: bool) -> None:
    assert are_splits_or_folds(names.split(", ") if ", " in names else names.split()) is parts


def test_a_clip_outside_the_label_folders_of_a_split(tmp_path: Path) -> None:
    for file in ("train/cat/1.wav", "train/dog/1.wav", "train/2.wav", "test/cat/1.wav"):
        wav(tmp_path / file)
    problem = refused(tmp_path)
    assert (problem.where, "next to the label folders" in problem.what) == (
        repr(str(tmp_path / "train" / "2.wav")),
        True,
    )


@pytest.mark.parametrize("labelled", [True, False])
def test_unlabelled_clips_with_and_without_a_table(tmp_path: Path, labelled: bool) -> None:
    for name in ("clip1", "clip2"):
        wav(tmp_path / f"{name}.wav")
    if labelled:
        written(tmp_path / "labels.tsv", "filename\tlabel", "clip1.wav\tcat", "clip2.wav\tdog")
        assert read(refused(tmp_path).fix) == {"train": {"clip1.wav": "cat", "clip2.wav": "dog"}}
    else:
        assert refused(tmp_path).fix == "move it into a folder named after its label"


def test_a_folder_of_tables_suggests_one(tmp_path: Path) -> None:
    fix = refused(esc50(tmp_path) / "meta", "E209").fix
    assert f"a table as the source, such as {str(tmp_path / 'meta' / 'esc50.csv')!r}" in fix


@pytest.mark.parametrize("class_labels", [None, ["audio"]])
def test_folders_of_audio_alone_are_refused_for_a_table_that_names_their_clips(
    tmp_path: Path, class_labels: list[str] | None
) -> None:
    wav(tmp_path / "audio" / "clip1.wav")
    written(tmp_path / "notes.csv", "topic,note", "weather,rain")
    assert set(load_audio_dataset(tmp_path, class_labels=class_labels)) == {"train"}
    written(tmp_path / "labels.csv", "path,label", "audio/clip1.wav,cat")
    if class_labels is None:
        assert read(refused(tmp_path).fix) == {"train": {"clip1.wav": "cat"}}
    else:
        assert label_names(load_audio_dataset(tmp_path, class_labels=class_labels)["train"]) == ["audio"]


# ---------------------------------------------------------------- tables that are not read

HEAD = "path,label,speaker"
ROWS = ("cat/clip1.wav,cat,Ada", "dog/clip2.wav,dog,Bob")
#: table of the same clips -> its name and lines
TABLES = {
    "next to the folders": ("clips/labels.csv", [HEAD, *ROWS]),
    "next to the source": ("labels.csv", [HEAD, *(f"clips/{row}" for row in ROWS)]),
    "in a folder": ("clips/metadata/all.csv", [HEAD, *(f"../{row}" for row in ROWS)]),
    "in a folder, names alone": ("clips/meta/all.csv", [HEAD, *(row.partition("/")[2] for row in ROWS)]),
    "in a folder next to the source": ("metadata/all.csv", [HEAD, *ROWS]),
    "tabs": ("clips/all.tsv", [line.replace(",", "\t") for line in (HEAD, *ROWS)]),
    "lines of JSON": (
        "clips/all.jsonl",
        ['{"file_name": "cat/clip1.wav", "label": "cat"}', '{"file_name": "dog/clip2.wav", "label": "dog"}'],
    ),
    "JSON": (
        "clips/all.json",
        ['[{"path": "cat/clip1.wav", "label": "cat"}, {"path": "dog/clip2.wav", "label": "dog"}]'],
    ),
}


@pytest.mark.parametrize(("name", "lines"), TABLES.values(), ids=TABLES)
def test_an_unread_table_of_the_clips_is_warned_of(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, name: str, lines: list[str]
) -> None:
    wav(tmp_path / "clips" / "cat" / "clip1.wav")
    wav(tmp_path / "clips" / "dog" / "clip2.wav")
    table = written(tmp_path / name, *lines)
    splits = load_audio_dataset(tmp_path / "clips")
    assert label_names(splits["train"]) == ["cat", "dog"]
    (message,) = warned(recwarn)
    what = "has a table of its clips that is not read; to read it, give the table"
    start = f"[AST-W205] {str(tmp_path / 'clips')!r}: {what}"
    assert message.startswith(f"{start} as the source, {str(table)!r}")
    assert read(message) == {"train": {"clip1.wav": "cat", "clip2.wav": "dog"}}
    load_audio_dataset(tmp_path / "clips", class_labels=["cat", "dog"])
    assert [text for text in warned(recwarn)[1:] if "has a table" in text] == []


def test_a_table_of_other_files_with_the_same_names_gives_no_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    for place in ("mine", "metadata_of_others"):
        wav(tmp_path / place / "cat" / "clip1.wav")
    written(tmp_path / "metadata_of_others" / "labels.csv", "path,label", "cat/clip1.wav,cat")
    load_audio_dataset(tmp_path / "mine")
    assert warned(recwarn) == []


def test_a_message_names_both_folders_of_the_files(tmp_path: Path) -> None:
    for place in ("a", "b"):
        wav(tmp_path / place / "one.wav")
    fix = refused(written(tmp_path / "x.csv", "path,label", "one.wav,cat"), "E206").fix
    assert fix.startswith(
        f"its files are in {str(tmp_path / 'a')!r} and in {str(tmp_path / 'b')!r}: audio_root="
    )


def test_an_unread_parquet_file_is_warned_of(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    from datasets import Dataset

    wav(tmp_path / "cat" / "clip1.wav")
    Dataset.from_dict({"path": ["cat/clip1.wav"], "label": ["cat"], "n": [1]}).to_parquet(
        tmp_path / "all.parquet"
    )
    load_audio_dataset(tmp_path)
    assert [str(tmp_path / "all.parquet") in message for message in warned(recwarn)] == [True]


#: files next to label folders that are not a table of their clips
OTHERS = {
    "classes": ("class_labels.csv", ["index,mid,display_name", "0,/m/a,cat", "1,/m/b,dog"]),
    "of other clips": ("other.csv", ["path,label", "elsewhere.wav,cat"]),
    "measurements alone": ("features.csv", ["file,loudness", "clip1.wav,-20", "clip2.wav,-21"]),
    "broken": ("all.json", ['[{"path": "clip1.wav", "label": ']),
    "numbers": ("counts.csv", ["label,count", "1,1", "2,1"]),
    "no text": ("all.csv", ["\x00\x01\ufffd"]),
    "empty": ("all.jsonl", [""]),
}


@pytest.mark.parametrize(("name", "lines"), OTHERS.values(), ids=OTHERS)
def test_other_files_next_to_label_folders_give_no_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, name: str, lines: list[str]
) -> None:
    for file in ("cat/clip1.wav", "dog/clip2.wav", "cat/1.wav", "dog/2.wav"):
        wav(tmp_path / file)
    written(tmp_path / name, *lines)
    load_audio_dataset(tmp_path)
    assert warned(recwarn) == []


# ---------------------------------------------------------------- files in another folder


def test_bare_file_names_are_found_below_audio_root(tmp_path: Path) -> None:
    for file in ("a/one.wav", "b/c/two.flac", "three.wav", "b/three.wav"):
        wav(tmp_path / "audio" / file)
    table = written(
        tmp_path / "x.csv", "path,label", "one.wav,cat", "two,dog", "three.wav,owl", "b/three.wav,emu"
    )
    lists = {"test": written(tmp_path / "test.txt", "two", "a/one.wav")}
    splits = load_audio_dataset(table, audio_root=tmp_path / "audio", split_lists=lists)
    files_by_split = {
        split: [str(Path(row["audio"]["path"]).relative_to(tmp_path / "audio")) for row in rows]
        for split, rows in splits.items()
    }
    assert files_by_split == {"test": ["a/one.wav", "b/c/two.flac"], "train": ["three.wav", "b/three.wav"]}


def test_an_ambiguous_file_name_is_refused(tmp_path: Path) -> None:
    for file in ("a/one.wav", "b/one.wav"):
        wav(tmp_path / file)
    table = written(tmp_path / "x.csv", "path,label", "one.wav,cat")
    problem = refused(table, "E206", audio_root=tmp_path)
    assert problem.fix == f"2 files below {str(tmp_path)!r} have this name; write their paths relative to it"


def test_names_with_folders_are_not_searched_for(tmp_path: Path) -> None:
    wav(tmp_path / "audio" / "a" / "one.wav")
    table = written(tmp_path / "x.csv", "path,label", "b/one.wav,cat")
    refused(table, "E206", audio_root=tmp_path / "audio")


@pytest.mark.parametrize("written_as", ["wavs/one.wav", "/data/wavs/one.wav", "C:\\wavs\\one.wav"])
def test_files_that_no_option_finds_are_named(tmp_path: Path, written_as: str) -> None:
    wav(tmp_path / "audio" / "one.wav")
    fix = refused(written(tmp_path / "x.csv", "path,label", f"{written_as},cat"), "E206").fix
    assert fix == f"files of these names are below {str(tmp_path)!r}: write their paths relative to the table"


def test_missing_files_are_reported(tmp_path: Path) -> None:
    wav(tmp_path / "meta" / "here.wav")
    table = written(tmp_path / "meta" / "x.csv", "path,label", "one.wav,cat", "two.wav,dog")
    assert "relative to" in refused(table, "E206").fix
    wav(tmp_path / "audio" / "one.wav")  # one of two names is not enough
    assert "audio_root" not in refused(table, "E206").fix


# ---------------------------------------------------------------- lists written as text

LISTS = {
    "['chainsaw']": ["chainsaw"],
    "['a', 'b']": ["a", "b"],
    '["a", "child\'s play"]': ["a", "child's play"],
    "[\"child's play\", 'b']": ["child's play", "b"],
    "['a' 'b']": ["a", "b"],
    "('a',)": ["a"],
    "{'a'}": ["a"],
    "[1, 2]": ["1", "2"],
    "[0 3]": ["0", "3"],
    " ['dog'] ": ["dog"],
    "[np.str_('dog'), np.str_('rain')]": ["dog", "rain"],
    "[np.int64(3), np.int64(12)]": ["3", "12"],
    '["t\\u00f6n"]': ["tön"],
}


def of_label(folder: Path, label: str) -> Path:
    for name in ("one", "two"):
        wav(folder / f"{name}.wav")
    quoted = '"' + label.replace('"', '""') + '"'
    return written(folder / "x.csv", "path,label", f"one.wav,{quoted}", "two.wav,owl")


@pytest.mark.parametrize(("text", "labels"), LISTS.items())
def test_a_list_written_as_text(tmp_path: Path, text: str, labels: list[str]) -> None:
    table = of_label(tmp_path, text)
    problem = refused(table)
    assert "row 1, column 'label'" in problem.where
    assert "is a list written as text, and would be one class" in problem.what
    assert followed(problem.fix)[1] == {"label_separator": ";"}
    rows = load_audio_dataset(table, label_separator=";")["train"]
    assert [[label_names(rows)[label] for label in row] for row in rows["labels"]] == [labels, ["owl"]]
    assert load_audio_dataset(table, label_separator=",")["train"]["labels"] == rows["labels"]
    assert label_names(load_audio_dataset(table, class_labels=[text.strip(), "owl"])["train"]) == [
        text.strip(),
        "owl",
    ]


def test_the_fix_for_a_list_written_as_text_works_in_a_shell(tmp_path: Path) -> None:
    table = of_label(tmp_path, "['a', 'b']")
    match = re.search(r"finetune takes (--set [^)]+)\)", refused(table).fix)
    assert match is not None
    changes = [word for word in shlex.split(match[1]) if word != "--set"]
    recipe = load_recipe(ROOT / "examples" / "recipes" / "finetune.yaml", [f"data.source={table}", *changes])
    assert label_names(read_data(recipe.data)["train"]) == ["a", "b", "owl"]


@pytest.mark.parametrize(
    "label",
    ["[noise]", "(laughter)", "(unknown)", "(3)", "dog's", "'a'", "a [b]", "set (drums)", "[unk] x", "3"],
)
def test_names_that_resemble_lists_are_accepted(tmp_path: Path, label: str) -> None:
    assert label in label_names(load_audio_dataset(of_label(tmp_path, label))["train"])


COLLECTIONS = [
    "['dog', None]", "['dog', nan]", "array(['dog'], dtype=object)", "[['dog']]", "{'dog': 1}",
    "'dog', 'rain'", "set()",
    "frozenset({'dog'})", "tensor([1., 0.])", "[dog, rain]", "['dog', ...]", "[0. 3.]", "[nan]", "[1 0 0]", "b'dog'",
]  # fmt: skip


@pytest.mark.parametrize("separator", [None, ";"])
@pytest.mark.parametrize("label", COLLECTIONS)
def test_collections_other_than_lists_written_as_text_are_refused(
    tmp_path: Path, label: str, separator: str | None
) -> None:
    table = of_label(tmp_path, label)
    problem = refused(table, label_separator=separator)
    assert "row 1, column 'label'" in problem.where
    assert "is a collection written as text" in problem.what
    assert "--class_labels FILE (finetune: --set data.class_labels=FILE)" in problem.fix
    classes = written(tmp_path / "classes.txt", label, "owl")
    assert label_names(load_audio_dataset(table, class_labels=classes)["train"]) == [label, "owl"]


def test_a_vector_of_0_and_1_is_not_a_list_of_labels() -> None:
    assert parse_label_list("[0, 1]") == ["0", "1"]  # two classes may be called so
    assert parse_label_list("[0, 1, 0]") is None
    assert parse_label_list("[0, 1, 2]") == ["0", "1", "2"]


def test_a_label_that_is_given_twice_counts_once(tmp_path: Path) -> None:
    for file in ("one.wav", "two.wav"):
        wav(tmp_path / file)
    table = written(tmp_path / "x.csv", "path,labels", "one.wav,cat;dog;cat", "two.wav,dog")
    split = load_audio_dataset(table, label_separator=";")["train"]
    assert list(split["labels"]) == [[0, 1], [1]]


@contextmanager
def processor_time_limit(seconds: float) -> Iterator[None]:
    """Raise after this much processor time of the process, also inside a regular expression."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"took more than {seconds} s of processor time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@pytest.mark.parametrize(
    "label",
    ["[" + "1" * 60 + "x", "[" + "1 " * 20_000 + "x", "['" + "a' '" * 20_000 + "x"],
    ids=["digits", "numbers", "quotes"],
)
def test_long_labels_do_not_backtrack(label: str) -> None:
    """Linear time takes hundredths of a second; trying every way to split the text would take hours."""
    with processor_time_limit(30):
        assert parse_label_list(label) is None
        assert (_COLLECTION.match(label) is not None) is label.startswith("['")


def test_an_empty_list_written_as_text_is_refused(tmp_path: Path) -> None:
    refused(of_label(tmp_path, "[]"))
    assert "has no label" in refused(of_label(tmp_path, "[]"), label_separator=",").what


@pytest.mark.parametrize("label", ['{"name": "cat"}', '[["cat"]]', '[{"name": "cat"}]'])
def test_invalid_labels_in_lines_of_json_are_refused(tmp_path: Path, label: str) -> None:
    wav(tmp_path / "one.wav")
    table = written(tmp_path / "x.jsonl", f'{{"path": "one.wav", "label": {label}}}')
    assert "is not a label" in refused(table).what


@pytest.mark.parametrize(("label", "count"), [("Bark,Dog", True), ("/m/a,/m/b", True), ("Ant, small", False)])
def test_labels_that_commas_separate(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, label: str, count: bool
) -> None:
    load_audio_dataset(of_label(tmp_path, label))
    assert ["W206" in text for text in warned(recwarn)] == [True] * count


# ---------------------------------------------------------------- tables in folders of splits


def splits_with_tables(root: Path, table: str, inside: str = "", label: str = "label") -> Path:
    """Create train and test with two clips each and a table in each; `inside` is a folder of the clips."""
    for split in ("train", "test"):
        prefix = "" if Path(table).parent.name == inside else f"{inside}/"
        rows = [f"file_name,{label}", f"{prefix}0.wav,cat", f"{prefix}1.wav,dog"]
        for number in (0, 1):
            wav(root / split / inside / f"{number}.wav")
        written(root / split / table, *rows)
    return root


READ_BY_SPLIT = {split: {"0.wav": "cat", "1.wav": "dog"} for split in ("train", "test")}


@pytest.mark.parametrize(
    ("table", "inside"), [("metadata.csv", ""), ("metadata.csv", "audio"), ("audio/metadata.csv", "audio")]
)
def test_a_table_in_each_split_is_read(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, table: str, inside: str
) -> None:
    root = splits_with_tables(tmp_path, table, inside)
    assert contents(load_audio_dataset(root)) == READ_BY_SPLIT
    assert warned(recwarn) == []


def test_a_table_of_any_format_and_spelling_of_the_split(tmp_path: Path) -> None:
    root = splits_with_tables(tmp_path, "metadata.csv")
    (root / "test").rename(root / "Valid")
    (root / "train" / "metadata.csv").unlink()
    lines = ('{"file_name": "0.wav", "label": "cat"}', '{"file_name": "1.wav", "label": "dog"}')
    written(root / "train" / "metadata.jsonl", *lines)
    assert set(load_audio_dataset(root)) == {"train", "validation"}
    written(root / "train" / "metadata.csv", "file_name,label", "0.wav,owl", "1.wav,dog")
    assert contents(load_audio_dataset(root))["train"] == {"0.wav": "owl", "1.wav": "dog"}


def test_the_columns_of_the_caller_are_used(tmp_path: Path) -> None:
    root = splits_with_tables(tmp_path, "metadata.csv", label="mood")
    assert "metadata.csv" in refused(root).fix
    assert contents(load_audio_dataset(root, label_column="mood")) == READ_BY_SPLIT


def test_splits_of_a_column_count_more_than_folders(tmp_path: Path) -> None:
    for number in (0, 1):
        wav(tmp_path / "train" / f"{number}.wav")
    written(tmp_path / "train" / "metadata.csv", "file_name,label,split", "0.wav,cat,train", "1.wav,cat,dev")
    assert set(load_audio_dataset(tmp_path)) == {"train", "validation"}


def test_clips_that_no_table_names_are_counted(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    root = splits_with_tables(tmp_path, "metadata.csv")
    wav(root / "train" / "9.wav")
    assert contents(load_audio_dataset(root)) == READ_BY_SPLIT
    assert [text.partition(": ")[2] for text in warned(recwarn)] == [
        "has clips that no table names (1: 'train/9.wav')."
    ]


def test_tables_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    root = splits_with_tables(tmp_path, "metadata.csv", "audio")
    written(root / "train" / "audio" / "metadata.csv", "file_name,label", "0.wav,owl")
    assert "and so does" in refused(root).what
    (root / "train" / "audio" / "metadata.csv").unlink()
    wav(root / "more" / "9.wav")
    written(root / "more" / "metadata.csv", "file_name,label", "9.wav,owl")
    problem = refused(root)
    assert "others: " in problem.what
    assert followed(problem.fix)[0].keys() == {"train", "test"}


def test_tables_with_equal_names_are_of_the_splits_of_their_folders(tmp_path: Path) -> None:
    root = splits_with_tables(tmp_path, "train.csv")
    assert read(refused(root).fix) == READ_BY_SPLIT


# ---------------------------------------------------------------- no clip is lost without a word


def two_labels(root: Path) -> Path:
    for file in ("cat/1.wav", "dog/1.wav"):
        wav(root / file)
    return root


def test_names_without_content_are_refused(tmp_path: Path) -> None:
    root = two_labels(tmp_path)
    link = root / "cat" / "2.wav"
    link.symlink_to("../.git/annex/objects/x")
    problem = refused(root, "E206")
    assert problem.what == "'cat/2.wav' is a link to '../.git/annex/objects/x', which does not exist"
    assert "git annex get" in problem.fix
    assert len(load_audio_dataset(root, check_files=False)["train"]) == 3
    link.unlink()
    (root / "cat" / ".2.wav.icloud").write_bytes(b"bplist00")
    assert "is in iCloud" in refused(root, "E206").what
    written(tmp_path / "t.csv", "path,label", "cat,cat")
    assert refused(tmp_path / "t.csv", "E206").what == "'cat' is a folder, not a file"


def test_links_to_folders_are_followed_once(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    root = two_labels(tmp_path / "set")
    (root / "dog").rename(root / ".dogs")
    (root / "dog").symlink_to(".dogs")
    (root / "cat" / "loop").symlink_to("..")
    (root / "cat" / "self").symlink_to("self")
    assert label_names(load_audio_dataset(root)["train"]) == ["cat", "dog"]
    (text,) = warned(recwarn)
    assert "links to folders that are read already (1: 'cat/loop')" in text
    assert "links to nothing (1: 'cat/self')" in text


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("cat/.2.wav", b"", "hidden clips (1: 'cat/.2.wav')"),
        (".old/2.wav", b"", "hidden folders of clips (1: '.old')"),
        ("more.zip", b"PK", "archives that are not opened (1: 'more.zip')"),
        ("cat/2.wav.part", b"RIFF", "audio files with other suffixes (1: 'cat/2.wav.part')"),
        ("cat/2.ape", b"", "files that are not read (1 .ape)"),
        ("cat/._1.wav", b"", ""),
        ("__MACOSX/cat/._1.wav", b"", ""),
        ("cat/Thumbs.db", b"", ""),
        ("cat/notes.txt", b"RIP", ""),
    ],
)
def test_files_that_are_left_out_are_counted(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, name: str, content: bytes, text: str
) -> None:
    two_labels(tmp_path)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(content)
    assert len(load_audio_dataset(tmp_path)["train"]) == 2
    assert len(warned(recwarn)) == bool(text)
    assert text in "".join(warned(recwarn))


def test_labels_within_labels_and_splits_next_to_labels_are_refused(tmp_path: Path) -> None:
    root = two_labels(tmp_path / "set")
    wav(root / "cat" / "tabby" / "2.wav")
    problem = refused(root)
    assert problem.what == "has clips in 'cat' and in 'cat/tabby', which would be two classes"
    classes = ["cat", "cat/tabby", "dog"]
    assert label_names(load_audio_dataset(root, class_labels=classes)["train"]) == classes
    for name in ("train", "test", "bus"):
        wav(tmp_path / "other" / name / "1.wav")
    assert "named after splits, next to others" in refused(tmp_path / "other").what


def test_names_that_utf8_cannot_hold_are_refused(tmp_path: Path) -> None:
    root = two_labels(tmp_path)
    (root / "cat").rename(root / "caf\udce9")
    assert r"caf\udce9" in refused(root, "E206").what
    line = '{"file_name": "dog/1.wav", "label": "\\ud800"}'
    assert "surrogate" in refused(written(root / "t.jsonl", line)).what
