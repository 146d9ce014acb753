"""Sources other than one CSV: Parquet, JSON, the original's lists, boundaries, folds, class lists, several files."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import warnings
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
import soundfile
from datasets import Audio, ClassLabel, Dataset, Features, IterableDatasetDict, Value
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from ast_hf import AstDataError, ASTFeatureExtractor, AstHfError, AstHfWarning, load_audio
from ast_hf.data.holding_out import hold_out
from ast_hf.data.label_cells import _COLLECTION, MISSING, parse_label_list
from ast_hf.data.labels import in_order, read_class_labels
from ast_hf.data.splits import check_splits, label_names
from ast_hf.training import ClipInputs, load_audio_dataset
from training.splits import contents

BARE = {"bytes": Value("binary"), "path": Value("string")}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def samples(level: float, count: int = 800) -> np.ndarray:
    return np.full(count, level)


def wav(path: Path, level: float = 0.25, count: int = 800) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples(level, count), 16_000)
    return path


def encoded(level: float) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples(level), 16_000, format="WAV")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for clip in "abcd":
        wav(tmp_path / f"{clip}.wav")
    return tmp_path


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


# Parquet.


def test_parquet_of_paths(folder: Path) -> None:
    rows = {
        "path": ["a.wav", "b.wav", "c.wav"],
        "label": ["dog", "cat", "dog"],
        "split": ["train", "val", None],
    }
    Dataset.from_dict({**rows, "take": [1, 2, 3]}).to_parquet(folder / "clips.parquet")
    splits = load_audio_dataset(folder / "clips.parquet")
    assert contents(splits) == {"train": {"a.wav": "dog", "c.wav": "dog"}, "validation": {"b.wav": "cat"}}
    assert list(splits["train"]["take"]) == ["1", "3"]
    assert load_audio(splits["train"][1]["audio"]).shape == (800,)


def embedded(path: Path, labels: object, values: list, **columns: list) -> Path:
    """Write a table as `datasets` does; clip n is a constant of n / 8."""
    sounds = [{"bytes": encoded(number / 8), "path": f"{number}.wav"} for number in range(len(values))]
    features = Features({"sound": BARE, "label": labels, **{name: Value("string") for name in columns}})
    table = Dataset.from_dict({"sound": sounds, "label": values, **columns}, features=features)
    table.cast_column("sound", Audio()).to_parquet(path)
    return path


@pytest.mark.parametrize("order", [["train", "train", "test", "test"], ["test", "train", "train", "test"]])
def test_parquet_of_embedded_audio(tmp_path: Path, order: list[str]) -> None:
    labels = ClassLabel(names=["owl", "cat", "dog"])
    file = embedded(tmp_path / "x.parquet", labels, [2, 0, 0, 2], split=order, who=["A", "B", "C", "D"])
    splits = load_audio_dataset(file, audio_column="sound")
    # the order of the file
    assert {label_names(rows) == ["owl", "cat", "dog"] for rows in splits.values()} == {True}
    expected = {0: ("dog", "A"), 1: ("owl", "B"), 2: ("owl", "C"), 3: ("dog", "D")}
    for split, rows in splits.items():
        assert rows.features["audio"] == Audio(decode=False)
        numbers = [number for number, name in enumerate(order) if name == split]
        for number, row in zip(numbers, rows, strict=True):
            assert (label_names(rows)[row["label"]], row["who"]) == expected[number]
            np.testing.assert_array_equal(load_audio(row["audio"]), samples(number / 8))


def test_parquet_of_several_labels_each(tmp_path: Path) -> None:
    kind = datasets.List(ClassLabel(names=["owl", "cat"]))
    file = embedded(tmp_path / "x.parquet", kind, [[0, 1], [1]])
    assert contents(load_audio_dataset(file, audio_column="sound")) == {
        "train": {"0.wav": ["owl", "cat"], "1.wav": ["cat"]}
    }


def test_parquet_metadata_of_a_folder(folder: Path) -> None:
    Dataset.from_dict({"file_name": ["a.wav", "b.wav"], "label": ["x", "y"]}).to_parquet(
        folder / "metadata.parquet"
    )
    assert contents(load_audio_dataset(folder)) == {"train": {"a.wav": "x", "b.wav": "y"}}


def test_parquet_with_a_clip_that_has_no_audio(tmp_path: Path) -> None:
    rows = {
        "audio": [{"bytes": encoded(0.5), "path": "0"}, {"bytes": None, "path": "1"}],
        "label": ["x", "y"],
    }
    Dataset.from_dict(rows, features=Features(audio=BARE, label=Value("string"))).to_parquet(
        tmp_path / "x.parquet"
    )
    with pytest.raises(AstDataError, match=r"E208.*x\.parquet row 2, column 'audio'"):
        load_audio_dataset(tmp_path / "x.parquet")


def test_missing_class_in_parquet_is_named(tmp_path: Path) -> None:
    file = embedded(tmp_path / "x.parquet", ClassLabel(names=["owl", "cat"]), [0, None, 1])
    with pytest.raises(AstDataError, match=r"E208.*row 2, column 'label'.*no label"):
        load_audio_dataset(file, audio_column="sound")


def test_files_that_are_not_parquet_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AstDataError, match=r"E208.*x\.parquet.*git lfs pull"):
        load_audio_dataset(write(tmp_path / "x.parquet", "version https://git-lfs.github.com/spec/v1"))


# JSON, and the original's lists.

CLASSES = 'index,mid,display_name\n0,/m/z,Zebra\n1,/m/a,"Ant, small"\n2,/m/c,Cat\n'
ORIGINAL = {"data": [{"wav": "a.wav", "labels": "/m/a,/m/z"}, {"wav": "b.wav", "labels": "/m/c"}]}


def test_json_list_of_rows(folder: Path) -> None:
    rows = [{"path": "a.wav", "label": "dog", "split": "test"}, {"path": "b.wav", "label": "cat"}]
    splits = load_audio_dataset(write(folder / "clips.json", rows))
    assert contents(splits) == {"test": {"a.wav": "dog"}, "train": {"b.wav": "cat"}}


def test_original_json_with_its_classes(folder: Path) -> None:
    labels = write(folder / "class_labels_indices.csv", CLASSES)
    splits = load_audio_dataset(write(folder / "x.json", ORIGINAL), class_labels=labels)
    assert label_names(splits["train"]) == ["Zebra", "Ant, small", "Cat"]
    assert list(splits["train"]["labels"]) == [[1, 0], [2]]


def test_original_json_alone(folder: Path) -> None:
    splits = load_audio_dataset(write(folder / "x.json", ORIGINAL))
    assert contents(splits) == {"train": {"a.wav": ["/m/a", "/m/z"], "b.wav": ["/m/c"]}}


def test_original_json_of_one_label_each_is_single_label_unless_asked(folder: Path) -> None:
    file = write(
        folder / "x.json", {"data": [{"wav": "a.wav", "labels": "/m/a"}, {"wav": "b.wav", "labels": "/m/z"}]}
    )
    assert contents(load_audio_dataset(file)) == {"train": {"a.wav": "/m/a", "b.wav": "/m/z"}}
    assert contents(load_audio_dataset(file, label_separator=",")) == {
        "train": {"a.wav": ["/m/a"], "b.wav": ["/m/z"]}
    }


BAD_JSON = {
    "not JSON": ('[{"path": "a.wav",', "not JSON"),
    "another object": ('{"clips": []}', "dict"),
    "a number": ("7", "int"),
    "row of another kind": ('[{"path": "a.wav", "label": "x"}, "b.wav"]', "row 2"),
}


@pytest.mark.parametrize(("text", "message"), BAD_JSON.values(), ids=BAD_JSON)
def test_bad_json(folder: Path, text: str, message: str) -> None:
    with pytest.raises(AstDataError, match=rf"E208.*x\.json.*{message}"):
        load_audio_dataset(write(folder / "x.json", text))


# The label set.

TWO = "path,label\na.wav,dog\nb.wav,cat\n"


@pytest.mark.parametrize("kind", ["names", "text", "csv", "csv of names"])
def test_class_labels_fix_set_and_order(folder: Path, kind: str) -> None:
    forms: dict[str, Any] = {
        "names": ["dog", "owl", "cat"],
        "text": write(folder / "classes.txt", "dog\n\nowl \ncat\n"),
        "csv": write(folder / "classes.csv", "index,mid,display_name\n0,/m/d,dog\n1,/m/o,owl\n2,/m/c,cat\n"),
        "csv of names": write(folder / "names.csv", "display_name\ndog\nowl\ncat\n"),
    }
    train = load_audio_dataset(write(folder / "x.csv", TWO), class_labels=forms[kind])["train"]
    assert (label_names(train), list(train["label"])) == (["dog", "owl", "cat"], [0, 2])


def test_label_outside_the_set_names_its_row(folder: Path) -> None:
    with pytest.raises(
        AstDataError, match=r"E208.*x\.csv row 2.*'cat' is not one of the 2.*did you mean 'cats'"
    ):
        load_audio_dataset(write(folder / "x.csv", TWO), class_labels=["dog", "cats"])


def test_both_names_of_a_class_in_one_clip_are_one_label(folder: Path) -> None:
    rows = [{"path": "a.wav", "labels": ["/m/c", "Cat", "Zebra"]}]
    train = load_audio_dataset(write(folder / "x.json", rows), class_labels=write(folder / "c.csv", CLASSES))[
        "train"
    ]
    assert list(train["labels"]) == [[2, 0]]


BAD_CLASSES = {
    "gap": ("index,mid,display_name\n0,/m/a,x\n2,/m/b,y\n", "E208", "row 2"),
    "no name": ("index,mid\n0,/m/a\n", "E208", "display_name"),
    "name twice": ("index,mid,display_name\n0,/m/a,x\n1,/m/b,x\n", "E208", "row 2"),
    "nothing": ("index,mid,display_name\n", "E209", "names no class"),
}


@pytest.mark.parametrize(("text", "code", "message"), BAD_CLASSES.values(), ids=BAD_CLASSES)
def test_bad_class_labels(tmp_path: Path, text: str, code: str, message: str) -> None:
    with pytest.raises(AstDataError, match=message) as caught:
        read_class_labels(write(tmp_path / "c.csv", text))
    assert caught.value.code == code


def test_missing_class_labels(tmp_path: Path) -> None:
    with pytest.raises(AstDataError, match=r"E206.*none\.csv"):
        read_class_labels(tmp_path / "none.csv")


def test_dropped_labels(folder: Path) -> None:
    file = write(folder / "x.csv", "path,label\na.wav,dog\nb.wav,noise\nc.wav,dog;noise\nd.wav,cat\n")
    single = load_audio_dataset(file, drop_labels=["noise", "cat", "dog;noise"])
    assert (contents(single), label_names(single["train"])) == ({"train": {"a.wav": "dog"}}, ["dog"])
    several = load_audio_dataset(file, drop_labels=["noise"], label_separator=";")
    assert contents(several) == {"train": {"a.wav": ["dog"], "c.wav": ["dog"], "d.wav": ["cat"]}}
    with pytest.raises(AstDataError, match="E209"):
        load_audio_dataset(write(folder / "y.csv", "path,label\na.wav,dog\n"), drop_labels=["dog"])


# Boundaries.


@pytest.fixture
def ramp(tmp_path: Path) -> Path:
    """Write two seconds in which sample n of each second is n / 32768, negative in the second one."""
    second = (np.arange(16_000) / 32_768).astype(np.float32)
    soundfile.write(tmp_path / "long.wav", np.concatenate([second, -second]), 16_000)
    return tmp_path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_boundaries_are_read_and_used(ramp: Path, kind: str) -> None:
    rows = [("a", 0.5, 0.75), ("b", None, 0.25), ("a", 1.5, None), ("b", None, None)]
    file = ramp / f"clips.{kind}"
    if kind == "csv":
        write(
            file,
            "path,label,start,end\nlong.wav,a,0.5,0.75\nlong.wav,b,,0.25\nlong.wav,a,1.5,\nlong.wav,b,,\n",
        )
    elif kind == "jsonl":
        lines = [
            {"path": "long.wav", "label": label, "start": start, "end": end} for label, start, end in rows
        ]
        write(file, "\n".join(map(json.dumps, lines)))
    else:
        labels, starts, ends = zip(*rows, strict=True)
        Dataset.from_dict(
            {
                "path": ["long.wav"] * 4,
                "label": labels,
                "start": starts,
                "end": [np.nan if e is None else e for e in ends],
            }
        ).to_parquet(file)
    train = load_audio_dataset(file)["train"]
    assert (list(train["start"]), list(train["end"])) == ([0.5, None, 1.5, None], [0.75, 0.25, None, None])
    inputs = ClipInputs(train, ASTFeatureExtractor(max_length=64, num_mel_bins=32))
    full = load_audio(ramp / "long.wav")
    for clip, (first, last) in enumerate([(8_000, 12_000), (0, 4_000), (24_000, 32_000), (0, 32_000)]):
        np.testing.assert_array_equal(inputs.waveform(clip), full[first:last])


BAD_BOUNDARIES = {
    "text": ("soon,", "column 'start'", "'soon'"),
    "comma": ('"0,5",', "column 'start'", "'0,5'"),
    "negative": ("-1,2", "column 'start'", "-1"),
    "backwards": ("1.5,0.5", "row 2", "ends at 0.5 s"),
    "empty": ("0.5,0.5", "row 2", "not after"),
    "endless": ("0,inf", "column 'end'", "inf"),
}


@pytest.mark.parametrize(("cells", "where", "what"), BAD_BOUNDARIES.values(), ids=BAD_BOUNDARIES)
def test_impossible_boundaries_name_the_row(ramp: Path, cells: str, where: str, what: str) -> None:
    file = write(ramp / "x.csv", f"path,label,start,end\nlong.wav,a,,\nlong.wav,b,{cells}\n")
    with pytest.raises(AstDataError, match=r"E208.*x\.csv row 2") as caught:
        load_audio_dataset(file)
    assert (where in caught.value.where, what in caught.value.what) == (True, True)
    assert "--clip_boundaries false; finetune takes --set data.clip_boundaries=false" in caught.value.fix
    train = load_audio_dataset(file, clip_boundaries=False)["train"]
    assert train.column_names == ["audio", "label"]


def test_boundaries_past_the_end_name_the_row_when_read(ramp: Path) -> None:
    train = load_audio_dataset(
        write(ramp / "x.csv", "path,label,start,end\nlong.wav,a,0,1\nlong.wav,b,1,7\n")
    )["train"]
    inputs = ClipInputs(train, ASTFeatureExtractor(max_length=64, num_mel_bins=32))
    with pytest.raises(AstHfError, match=r"E208.*row 2, .*long\.wav.*lasts 2\.000 s"):
        inputs.waveform(1)


# Splits.

FOLDS = "path,label,fold\na.wav,x,1\nb.wav,y,2\nc.wav,x,3\nd.wav,y,1\n"


@pytest.mark.parametrize("fold", [1, "1", 1.0])
def test_fold_chooses_the_test_split(folder: Path, fold: Any) -> None:
    splits = load_audio_dataset(write(folder / "x.csv", FOLDS), test_fold=fold)
    assert contents(splits) == {"test": {"a.wav": "x", "d.wav": "y"}, "train": {"b.wav": "y", "c.wav": "x"}}
    assert set(load_audio_dataset(folder / "x.csv")) == {"train"}


def test_fold_of_another_column(folder: Path) -> None:
    file = write(folder / "x.csv", FOLDS.replace("fold", "part"))
    assert contents(load_audio_dataset(file, test_fold=3, fold_column="part"))["test"] == {"c.wav": "x"}
    with pytest.raises(
        AstDataError, match=r"E208.*row 1.*'fold'.*path, label, part.*fold_column=.*data\.fold_column"
    ):
        load_audio_dataset(file, test_fold=3)


def test_a_missing_fold_is_refused(folder: Path) -> None:
    with pytest.raises(AstDataError, match=r"E209.*fold 4, the folds are 1, 2, 3"):
        load_audio_dataset(write(folder / "x.csv", FOLDS), test_fold=4)


@pytest.fixture
def parts(folder: Path) -> list[Path]:
    wav(folder / "more" / "cat" / "e.wav")
    return [
        write(folder / "1.csv", "path,label,who\na.wav,dog,A\nb.wav,cat,B\n"),
        write(
            folder / "2.jsonl", '{"file_name": "c.wav", "category": "owl", "place": "sea", "split": "dev"}'
        ),
        folder / "more",
    ]


def test_several_files_of_each_split(parts: list[Path]) -> None:
    splits = load_audio_dataset({"train": [parts[0], parts[2]], "val": str(parts[1])})
    assert contents(splits) == {
        "train": {"a.wav": "dog", "b.wav": "cat", "e.wav": "cat"},
        "validation": {"c.wav": "owl"},
    }
    assert {tuple(label_names(rows)) for rows in splits.values()} == {("cat", "dog", "owl")}
    assert list(splits["train"]["who"]) == ["A", "B", None]


def test_list_of_files_keeps_the_rows_splits(parts: list[Path]) -> None:
    splits = load_audio_dataset(parts)
    assert contents(splits)["validation"] == {"c.wav": "owl"}
    assert list(contents(splits)["train"]) == ["a.wav", "b.wav", "e.wav"]


def test_embedded_audio_next_to_files(folder: Path) -> None:
    table = embedded(folder / "x.parquet", Value("string"), ["dog", "cat"], who=["A", "B"])
    rows = load_audio_dataset(
        [table.rename(folder / "y.parquet"), write(folder / "x.csv", "sound,label\na.wav,owl\n")],
        audio_column="sound",
    )["train"]
    assert [label_names(rows)[label] for label in rows["label"]] == ["dog", "cat", "owl"]
    assert [load_audio(row["audio"])[0] for row in rows] == [0.0, 0.125, 0.25]


@pytest.mark.parametrize("source", [[], {}, {"train": []}], ids=str)
def test_no_source(source: Any) -> None:
    with pytest.raises(AstDataError, match=r"E209.*no file"):
        load_audio_dataset(source)


def test_problem_in_the_second_file_names_it(parts: list[Path]) -> None:
    write(parts[1], '{"path": "none.wav", "label": "x"}')
    with pytest.raises(AstDataError, match=r"E206.*2\.jsonl row 1.*none\.wav"):
        load_audio_dataset(parts)


def test_split_lists(tmp_path: Path) -> None:
    for name in ("cat/1.wav", "cat/2.wav", "dog/1.wav", "dog/2.wav"):
        wav(tmp_path / name)
    lists = {
        "validation": write(tmp_path / "v.txt", "cat/1.wav\n"),
        "test": write(tmp_path / "t.txt", "dog/1.wav\ncat/9.wav\n"),
    }
    splits = load_audio_dataset(tmp_path, split_lists=lists)
    files = {
        split: sorted("/".join(Path(row["audio"]["path"]).parts[-2:]) for row in rows)
        for split, rows in splits.items()
    }
    assert files == {"train": ["cat/2.wav", "dog/2.wav"], "validation": ["cat/1.wav"], "test": ["dog/1.wav"]}


def test_files_that_are_checked_later(folder: Path) -> None:
    file = write(folder / "x.csv", "path,label\na.wav,dog\nnone.wav,cat\n")
    train = load_audio_dataset(file, check_files=False)["train"]
    assert train[1]["audio"]["path"] == str(folder.resolve() / "none.wav")
    with pytest.raises(AstDataError, match=r"E206.*row 2"):
        load_audio_dataset(write(file, "path,label\na.wav,dog\n,cat\n"), check_files=False)


def test_audio_root(tmp_path: Path) -> None:
    wav(tmp_path / "audio" / "a.wav")
    file = write(tmp_path / "x.csv", "path,label\na.wav,dog\n")
    assert contents(load_audio_dataset(file, audio_root=tmp_path / "audio")) == {"train": {"a.wav": "dog"}}


# The Hub: options of tables.


def stored(folder: Path, **splits: list[tuple]) -> Path:
    """Write a folder as the Hub stores it; rows are (class name, fold)."""
    kind = ClassLabel(names=["owl", "cat", "_silence_"])
    bare = Features({"audio": BARE, "label": Value("string"), "names": datasets.List(kind)})
    bare |= {"kind": kind, "fold": Value("int64")}
    for split, rows in splits.items():
        table = {
            "audio": [{"bytes": encoded(0.5), "path": f"{split}{number}.wav"} for number in range(len(rows))],
            "label": [f"/m/{name}" for name, _ in rows],
            "names": [[name, "cat"] if name != "cat" else ["cat"] for name, _ in rows],
            "kind": [name for name, _ in rows],
            "fold": [fold for _, fold in rows],
        }
        data = Dataset.from_dict(table, features=bare).cast_column("audio", Audio())
        data.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Serve this folder as `user/sounds`; a configuration is a folder in it."""
    load = datasets.load_dataset

    def load_dataset(name: str, config: str = ".", **options: object) -> object:
        assert name == "user/sounds"
        return load(str(tmp_path / "hub" / config), cache_dir=str(tmp_path / "cache"), **options)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    (tmp_path / "hub").mkdir()
    return tmp_path / "hub"


STREAMED = pytest.mark.parametrize("streaming", [False, True], ids=["stored", "streamed"])


@STREAMED
def test_hub_classes_and_dropped_labels(hub: Path, streaming: bool) -> None:
    stored(hub, train=[("owl", 1), ("_silence_", 1), ("cat", 2)])
    options: dict[str, Any] = {"label_column": "kind", "drop_labels": ["_silence_"], "streaming": streaming}
    splits = load_audio_dataset("user/sounds", **options)
    assert isinstance(splits, IterableDatasetDict) is streaming
    assert label_names(splits["train"]) == ["owl", "cat"]
    assert contents(splits) == {"train": {"train0.wav": "owl", "train2.wav": "cat"}}
    other = load_audio_dataset("user/sounds", **options, class_labels=["cat", "dog", "owl"])
    assert [row["label"] for row in other["train"]] == [2, 0]


@STREAMED
def test_hub_label_outside_the_set(hub: Path, streaming: bool) -> None:
    stored(hub, train=[("owl", 1), ("cat", 1)])
    with pytest.raises(AstDataError, match=r"E208.*'train' row 2, column 'kind'.*'cat'"):
        list(
            load_audio_dataset("user/sounds", label_column="kind", class_labels=["owl"], streaming=streaming)[
                "train"
            ]
        )


@STREAMED
def test_fold_of_a_data_set_on_the_hub(hub: Path, streaming: bool) -> None:
    stored(hub, train=[("owl", 1), ("cat", 2), ("cat", 1)])
    splits = load_audio_dataset("user/sounds", label_column="kind", test_fold=2, streaming=streaming)
    assert contents(splits) == {
        "train": {"train0.wav": "owl", "train2.wav": "cat"},
        "test": {"train1.wav": "cat"},
    }
    with pytest.raises(AstDataError, match=r"E208.*fold_column="):
        load_audio_dataset(
            "user/sounds", test_fold=2, fold_column="part", streaming=streaming, class_labels=["x"]
        )


@STREAMED
def test_hub_configuration_and_merged_splits(hub: Path, streaming: bool) -> None:
    """Like AudioSet: a column with our name has identifiers, another one the label names."""
    (hub / "full").mkdir()
    stored(hub / "full", train=[("owl", 1)], validation=[("cat", 1)], test=[("cat", 2)])
    splits = load_audio_dataset(
        "user/sounds",
        config_name="full",
        label_column="names",
        merge_splits={"train": ["train", "validation"], "test": ["test"]},
        streaming=streaming,
    )
    assert contents(splits) == {
        "train": {"train0.wav": ["owl", "cat"], "validation0.wav": ["cat"]},
        "test": {"test0.wav": ["cat"]},
    }
    assert set(splits["train"].features) == {"audio", "labels", "kind", "fold"}
    with pytest.raises(AstDataError, match=r"E209.*'dev': does not exist"):
        load_audio_dataset(
            "user/sounds", config_name="full", merge_splits={"train": ["dev"]}, streaming=streaming
        )


def test_a_stream_with_unlisted_labels_is_refused(hub: Path) -> None:
    stored(hub, train=[("owl", 1)])
    with pytest.raises(AstDataError, match=r"E208.*'label'.*class_labels="):
        load_audio_dataset("user/sounds", streaming=True)


def test_local_files_as_streams(folder: Path) -> None:
    file = write(
        folder / "x.csv", "path,label,split,start\na.wav,dog,train,0.01\nb.wav,cat,train,\nc.wav,cat,test,\n"
    )
    splits = load_audio_dataset(file, streaming=True)
    assert isinstance(splits, IterableDatasetDict)
    assert contents(splits) == contents(load_audio_dataset(file))
    assert [row["start"] for row in splits["train"]] == [0.01, None]
    check_splits(splits, "train", ["test"])
    with pytest.raises(AstDataError, match=r"E209.*stream"):
        hold_out(splits["train"], 0.5, group_column=None, seed=0)


# Properties and literals of tables that are wrong.


def named(label: str) -> bool:
    """Return True for a text that is the name of a class, and not a list or a missing value."""
    return label not in MISSING and parse_label_list(label) is None and not _COLLECTION.match(label)


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n\r"), min_size=1)
NAMES = NAMES.map(str.strip).filter(bool).filter(named)


@pytest.mark.filterwarnings("ignore::ast_hf.AstHfWarning")
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json", "parquet"])
@given(labels=st.lists(NAMES, min_size=1, max_size=4), note=st.text(st.characters(exclude_categories=["Cs"])))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_is_read_as_it_was_written(folder: Path, kind: str, labels: list[str], note: str) -> None:
    rows = [{"path": f"{clip}.wav", "label": label} for clip, label in zip("abcd", labels, strict=False)]
    file = folder / f"x.{kind}"
    if kind in ("csv", "tsv"):
        with file.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), delimiter="," if kind == "csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    elif kind == "parquet":
        file = folder / f"{hashlib.sha256(repr(labels).encode()).hexdigest()}.parquet"
        parquet.write_table(pa.Table.from_pylist(rows), file)
    else:
        separator = "\n" if kind == "jsonl" else ","
        text = separator.join(json.dumps(row, ensure_ascii=False) for row in rows)
        write(file, text if kind == "jsonl" else f"[{text}]")
    assert contents(load_audio_dataset(file)) == {"train": {row["path"]: row["label"] for row in rows}}


@given(st.lists(st.integers(-(10**20), 10**20).map(str), unique=True))
def test_numbers_are_in_their_order(names: list[str]) -> None:
    assert in_order(names) == sorted(names, key=int)


def test_names_with_numbers_are_in_the_order_of_texts() -> None:
    assert in_order(["10", "9", "b"]) == ["10", "9", "b"]
    assert in_order(["2.5", "10", "-1", "2"]) == ["-1", "2", "2.5", "10"]


#: CSV -> row and line, or place, that the message names; a fragment of it.
QUOTES = {
    "open": ('path,label\na.wav,x\nb.wav,"y\nc.wav,x\n', "row 2 (line 3)", "not closed before the end"),
    "empty lines": ('path,label\n\n\na.wav,x\nb.wav,"y\n', "row 2 (line 5)", "not closed before the end"),
    "text behind it": ('path,label\na.wav,"x"y\nb.wav,y\n', "row 1 (line 2)", "text after a closing quote"),
    "head line": ('path,"label\na.wav,x\n', "head line", "not closed before the end"),
    "around rows": (
        'path,label,note\na.wav,x,"1\nb.wav,y,2\nc.wav,x,3"\nd.wav,y,\n',
        "row 1 (line 2)",
        "over 3 lines, 3 of which look like rows",
    ),
    "around rows without suffixes": (
        'path,label,note\na,x,"1\nb,y,2\nc,x,3"\nd,y,\n',
        "row 1 (line 2)",
        "over 3 lines, 3 of which look like rows",
    ),
}


@pytest.mark.parametrize(("text", "place", "what"), QUOTES.values(), ids=QUOTES)
def test_quotes_that_take_rows_are_refused(folder: Path, text: str, place: str, what: str) -> None:
    with pytest.raises(AstDataError) as caught:
        load_audio_dataset(write(folder / "x.csv", text))
    assert (caught.value.code, caught.value.where) == ("E208", f"{folder / 'x.csv'} {place}")
    assert what in caught.value.what


def test_cells_of_several_lines_keep_their_lines(folder: Path) -> None:
    text = 'path,label,note\na.wav,x,"one\n\ntwo"\nb.wav,y,"5"" disk"\nc.wav,x,5" disk\n'
    train = load_audio_dataset(write(folder / "x.csv", text))["train"]
    assert list(train["note"]) == ["one\n\ntwo", '5" disk', '5" disk']


#: head line -> columns that the warning names
TIMES = {
    "onset,offset": "'onset', 'offset'",
    "Start,End": "'Start', 'End'",
    "Begin Time (s),End Time (s)": "'Begin Time (s)', 'End Time (s)'",
    "start,duration": "'duration'",
    "t0,t1": "'t0', 't1'",
    "segment_start_ms,segmentEndMs": "'segment_start_ms', 'segmentEndMs'",
    "starttime,endtime": "'starttime', 'endtime'",
    "de,a": "'de', 'a'",
}


@pytest.mark.parametrize(("head", "columns"), TIMES.items())
def test_times_that_are_not_read_are_warned_of(folder: Path, head: str, columns: str) -> None:
    file = write(folder / "x.csv", f"path,label,{head}\na.wav,x,0,0.02\na.wav,y,0.02,0.04\n")
    with pytest.warns(AstHfWarning, match=rf"W208.*columns {re.escape(columns)} look like times"):
        load_audio_dataset(file)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_audio_dataset(file, clip_boundaries=False)


@pytest.mark.parametrize(
    "head", ["start,end", "duration,rate", "start_date,end_date", "to,note", "onset_id,x"]
)
def test_other_columns_are_not_taken_for_times(folder: Path, head: str, recwarn: Any) -> None:
    load_audio_dataset(write(folder / "x.csv", f"path,label,{head}\na.wav,x,0,0.02\na.wav,y,0,0.04\n"))
    assert [str(one.message) for one in recwarn if one.category is AstHfWarning] == []


DOUBTS = {
    "numbers among names": (["0", "dog", "dog"], "'0' are numbers among names"),
    "decimals": (["0.5", "2", "2"], "'0.5' are decimal numbers"),
    "unlabelled": (["-1", "0", "1"], "'-1' often marks"),
    "mark": (["?", "x", "x"], "'?' may stand for no label"),
    "equal": (["1", "01", "2"], "'01', '1' are the same number"),
    "dates": (["2026-01-31", "2026-02-01", "2026-01-31"], "'2026-01-31', '2026-02-01' are dates"),
    "spreadsheet": (["#REF!", "x", "x"], "'#REF!' may stand for no label"),
    "files": (["a.wav", "x", "x"], "'a.wav' are names of files"),
    "ids": (["p", "q", "r", "s", "t"], "5 classes for 5 clips"),
}


@pytest.mark.parametrize(("labels", "what"), DOUBTS.values(), ids=DOUBTS)
def test_labels_that_may_not_be_names_are_warned_of(folder: Path, labels: list[str], what: str) -> None:
    file = write(folder / "x.csv", "path,label\n" + "".join(f"a.wav,{label}\n" for label in labels))
    with pytest.warns(AstHfWarning, match=rf"W209.*{re.escape(what)}"):
        load_audio_dataset(file)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_audio_dataset(file, class_labels=sorted(set(labels)))


@pytest.mark.parametrize("joined", ["x, y", "x/y", "x+y", "x & y", "x and y", "1,5"])
def test_names_made_of_other_classes_are_warned_of(folder: Path, joined: str) -> None:
    with pytest.warns(AstHfWarning, match=rf"W206.*{re.escape(repr(joined))}: each is one class"):
        load_audio_dataset(write(folder / "x.csv", f'path,label\na.wav,"{joined}"\nb.wav,x\nc.wav,y\n'))


@pytest.mark.parametrize("name", ["Speech, male", "AC/DC", "rock and roll", "R&B"])
def test_names_with_separators_are_not_warned_of(folder: Path, name: str, recwarn: Any) -> None:
    load_audio_dataset(write(folder / "x.csv", f'path,label\na.wav,"{name}"\nb.wav,Speech\n'))
    assert [str(one.message) for one in recwarn if one.category is AstHfWarning] == []


def test_letters_of_other_scripts_are_warned_of(folder: Path) -> None:
    file = write(folder / "x.csv", "path,label\na.wav,cat\nb.wav,c\u0430t\n")
    with pytest.warns(AstHfWarning, match=r"W207.*'cat' and 'c\\u0430t' differ only"):
        load_audio_dataset(file)


@pytest.mark.parametrize(
    ("head", "row", "what"),
    [
        ("path,label,subset", "a.wav,x,{}", "column 'subset' names splits"),
        ("path,label", "{}/a.wav,x", "folders of splits ('test', 'train')"),
    ],
)
def test_splits_that_are_not_read_are_warned_of(folder: Path, head: str, row: str, what: str) -> None:
    for split in ("train", "test"):
        wav(folder / split / "a.wav")
    lines = [row.format(split) for split in ("train", "test")]
    file = write(folder / "x.csv", "\n".join([head, *lines]))
    with pytest.warns(AstHfWarning, match=rf"W208.*{re.escape(what)}"):
        load_audio_dataset(file)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_audio_dataset({"train": file})
        load_audio_dataset(
            write(folder / "y.csv", "\n".join([f"{head},split", *(f"{line},test" for line in lines)]))
        )


@pytest.mark.parametrize("label", ["nan", "NA", "None", "null", "<NA>"])
def test_texts_of_missing_values_are_refused_unless_listed(folder: Path, label: str) -> None:
    file = write(folder / "x.csv", f"path,label\na.wav,dog\nb.wav,{label}\nc.wav,{label}\n")
    with pytest.raises(AstDataError, match=r"E208.*row 2, column 'label'.*missing value \(2 rows: 2, 3\)"):
        load_audio_dataset(file)
    splits = load_audio_dataset(file, class_labels=["dog", label])
    assert contents(splits) == {"train": {"a.wav": "dog", "b.wav": label, "c.wav": label}}


def test_names_of_folders_are_never_missing_values(tmp_path: Path) -> None:
    for name in ("None", "NA"):
        wav(tmp_path / name / "1.wav")
    with pytest.warns(AstHfWarning, match="W209"):
        assert label_names(load_audio_dataset(tmp_path)["train"]) == ["NA", "None"]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.struct([("bytes", pa.binary())])])
def test_parquet_with_bytes_alone(tmp_path: Path, kind: pa.DataType) -> None:
    files = [encoded(number / 8) for number in (1, 2)]
    cells: list[Any] = [{"bytes": file} for file in files] if pa.types.is_struct(kind) else files
    parquet.write_table(
        pa.table({"audio": pa.array(cells, kind), "label": ["x", "y"]}), tmp_path / "x.parquet"
    )
    train = load_audio_dataset(tmp_path / "x.parquet")["train"]
    for number, row in enumerate(train, start=1):
        np.testing.assert_array_equal(load_audio(row["audio"]), samples(number / 8))


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "json"])
def test_decoded_audio_is_read_exactly(tmp_path: Path, suffix: str) -> None:
    waveforms = np.random.default_rng(0).uniform(-1, 1, (3, 400)).astype("float32")
    rows = [
        {
            "sound": {"array": waveform.tolist(), "sampling_rate": 8_000, "path": f"{label}.wav"},
            "label": label,
        }
        for waveform, label in zip(waveforms, "abc", strict=True)
    ]
    path = tmp_path / f"x.{suffix}"
    if suffix == "parquet":
        Dataset.from_list(rows).to_parquet(path)
    else:
        path.write_text(json.dumps(rows) if suffix == "json" else "\n".join(map(json.dumps, rows)))
    train = load_audio_dataset(path, audio_column="sound")["train"]
    assert [row["audio"]["path"] for row in train] == ["a.wav", "b.wav", "c.wav"]
    for row, waveform in zip(train, waveforms, strict=True):
        np.testing.assert_array_equal(load_audio(row["audio"], 8_000), waveform)


@pytest.mark.parametrize("array", [["a"], [[0.1], [0.1, 0.2]], [], [7, 8]])
def test_decoded_audio_that_is_no_audio_names_the_table(tmp_path: Path, array: list[Any]) -> None:
    rows = [{"audio": {"array": array, "sampling_rate": 8_000}, "label": label} for label in "ab"]
    with pytest.raises(AstHfError, match=r"x\.json.* column 'audio'"):
        load_audio_dataset(write(tmp_path / "x.json", rows))


def test_links_to_nowhere_are_named(folder: Path) -> None:
    (folder / "b.wav").unlink()
    (folder / "b.wav").symlink_to("annex/b")
    with pytest.raises(
        AstDataError, match=r"E206.*row 2.*'b\.wav' is a link to 'annex/b', which does not exist"
    ):
        load_audio_dataset(write(folder / "x.csv", TWO))
