"""Table C: folders of clips that a user has, whose files are not what a reader expects."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from .cases import Case, Right

ANNEX_LINK = "../.git/annex/objects/xX/yY/SHA256-s16044--0123.wav/SHA256-s16044--0123.wav"
TWO_SPLITS = ("train", "test")


def wav(path: Path) -> Path:
    """Write 0.3 s of a tone, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.sin(np.arange(4_800) / 5) / 2, 16_000)
    return path


def labelled(folder: Path) -> Path:
    """Write two label folders of three clips each, and return the folder of both."""
    root = folder / "set"
    for label in ("cat", "dog"):
        for number in range(3):
            wav(root / label / f"{number}.wav")
    return root


def with_splits(folder: Path, table: str | None, lines: Iterable[str], inside: str = "") -> Path:
    """Write four clips in train and in test, with a table in each, and return the folder of both."""
    root = folder / "set"
    for split in TWO_SPLITS:
        for number in range(4):
            wav(root / split / inside / f"{number}.wav")
        if table:
            (root / split / table).parent.mkdir(parents=True, exist_ok=True)
            (root / split / table).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def read(source: Any) -> dict[str, dict[str, str]]:
    """Return split -> file name -> label, as our package reads a source."""
    from ast_hf.training import load_audio_dataset

    splits = load_audio_dataset(source)
    return {
        split: {Path(row["audio"]["path"]).name: rows.features["label"].int2str(row["label"]) for row in rows}
        for split, rows in splits.items()
    }


def stock_read(source: Any) -> dict[str, dict[str, str]]:
    """Return the same as datasets' audiofolder reads it."""
    from datasets import Audio, load_dataset

    splits = load_dataset("audiofolder", data_dir=str(source))
    splits = splits.cast_column("audio", Audio(decode=False))
    return {
        split: {
            Path(row["audio"]["path"]).name: (
                rows.features["label"].int2str(row["label"])
                if hasattr(rows.features["label"], "int2str")
                else str(row["label"])
            )
            for row in rows
        }
        for split, rows in splits.items()
    }


LABELS = ("dog", "cat", "dog", "cat")


def _rows(separator: str = ",", inside: str = "") -> list[str]:
    prefix = f"{inside}/" if inside else ""
    rows = [f"{prefix}{number}.wav{separator}{label}" for number, label in enumerate(LABELS)]
    return [f"file_name{separator}label", *rows]


def _json_rows() -> list[str]:
    return [f'{{"file_name": "{number}.wav", "label": "{label}"}}' for number, label in enumerate(LABELS)]


def _is_read(value: Any) -> bool:
    expected = {f"{number}.wav": label for number, label in enumerate(LABELS)}
    return bool(value == {"train": expected, "test": expected})


def _with_parquet(folder: Path) -> Path:
    from datasets import Dataset

    root = with_splits(folder, None, ())
    names = [f"{number}.wav" for number in range(4)]
    for split in TWO_SPLITS:
        Dataset.from_dict({"file_name": names, "label": list(LABELS)}).to_parquet(
            root / split / "metadata.parquet"
        )
    return root


def _linked_class(folder: Path) -> Path:
    root = labelled(folder)
    (root / "dog").rename(folder / "dog")
    (root / "dog").symlink_to(folder / "dog")
    return root


def change(edit: Callable[[Path], Any]) -> Callable[[Path], Path]:
    """Return a `prepare` that edits two label folders of three clips."""

    def prepare(folder: Path) -> Path:
        root = labelled(folder)
        edit(root)
        return root

    return prepare


def splits_of(table: str, lines: list[str], inside: str = "") -> Callable[[Path], Path]:
    """Return a `prepare` that writes two folders of splits with a table in each."""
    return lambda folder: with_splits(folder, table, lines, inside)


def _loop(root: Path) -> None:
    (root / "cat" / "loop").symlink_to("..")
    (root / "cat" / "self").symlink_to("self")


def _crossed_links(root: Path) -> None:
    for first in range(6):
        wav(root / f"k{first}" / "a.wav")
        for second in range(6):
            if first != second:
                (root / f"k{first}" / f"l{second}").symlink_to(f"../k{second}")


def _all_dangling(root: Path) -> None:
    for clip in list(root.rglob("*.wav")):
        clip.unlink()
        clip.symlink_to(ANNEX_LINK)


def _hidden(root: Path) -> None:
    wav(root / "cat" / ".9.wav")


def _system_files(root: Path) -> None:
    for name in (
        ".DS_Store",
        "@eaDir/0.wav",
        "cat/._0.wav",
        "cat/Thumbs.db",
        "__MACOSX/cat/._0.wav",
        ".git/x.wav",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"\x00\x05\x16\x07")


def _not_unicode(root: Path) -> None:
    (root / "cat").rename(root / "caf\udce9")


def _mixed(root: Path) -> None:
    wav(root / "cat" / "tabby" / "9.wav")


def _table(name: str, content: str) -> Callable[[Path], Any]:
    return lambda root: (root / name).write_text(content)


def _two_tables(root: Path) -> None:
    clips = [clip.relative_to(root).as_posix() for clip in sorted(root.rglob("*.wav"))]
    rows = [{"file_name": clip, "label": clip.split("/")[0]} for clip in clips]
    (root / "metadata.csv").write_text("file_name,label\n" + "".join(f"{clip},x\n" for clip in clips))
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))


def _rows_of_splits() -> list[str]:
    rows = [f"{split}/{number}.wav,{label}" for split in TWO_SPLITS for number, label in enumerate(LABELS)]
    return ["file_name,label", *rows]


#: id, input, its preparation, right outcome
Row = tuple[str, str, Callable[[Path], Path], Right]

S1: list[Row] = [
    ("C25", "metadata.csv in train and test", splits_of("metadata.csv", _rows()), _is_read),
    ("C25-jsonl", "metadata.jsonl in train and test", splits_of("metadata.jsonl", _json_rows()), _is_read),
    ("C25-parquet", "metadata.parquet in train and test", _with_parquet, _is_read),
    (
        "C25-below",
        "metadata.csv above train/audio",
        splits_of("metadata.csv", _rows(inside="audio"), "audio"),
        _is_read,
    ),
    ("C25-inside", "train/audio/metadata.csv", splits_of("audio/metadata.csv", _rows(), "audio"), _is_read),
    ("C25-labels", "labels.csv in train and test", splits_of("labels.csv", _rows()), "E208"),
    ("C25-train", "train.csv in train and test", splits_of("train.csv", _rows()), "E208"),
    ("C25-tsv", "metadata.tsv in train and test", splits_of("metadata.tsv", _rows("\t")), "E208"),
    ("C25-capital", "Metadata.csv in train and test", splits_of("Metadata.csv", _rows()), "E208"),
    (
        "C26",
        "train/*.wav and test/*.wav without a table",
        lambda folder: with_splits(folder, None, ()),
        "E208",
    ),
    (
        "C26-mixed",
        "folders train, test and cat",
        change(lambda root: [wav(root / name / "1.wav") for name in TWO_SPLITS]),
        "E208",
    ),
    (
        "C27",
        "labels.csv in a label folder",
        change(_table("cat/labels.csv", "path,label\n0.wav,x\n1.wav,y\n")),
        "W205",
    ),
    (
        "C27-unlabelled",
        "metadata.csv without labels in label folders",
        change(_table("cat/metadata.csv", "file_name,speaker\n0.wav,Ada\n")),
        "W205",
    ),
    ("C27-partly", "clips that no table names", lambda folder: _partly(folder), "W205"),
    ("C27-twice", "two tables name one clip", lambda folder: _twice(folder), "E208"),
    (
        "C27-root",
        "clips that the folder's own table does not name",
        change(_table("metadata.csv", "file_name,label\ncat/0.wav,cat\ndog/1.wav,dog\n")),
        "W205",
    ),
    ("C27-both", "metadata.csv next to metadata.jsonl", change(_two_tables), "W205"),
    (
        "C27-splits",
        "metadata.csv of train and test without a column of splits",
        lambda folder: with_splits(folder, "../metadata.csv", _rows_of_splits()),
        "W208",
    ),
]

S4: list[Row] = [
    (
        "C28",
        "dangling link of git-annex or DataLad",
        change(lambda root: (root / "cat" / "9.wav").symlink_to(ANNEX_LINK)),
        "E206",
    ),
    ("C28-all", "only dangling links", change(_all_dangling), "E206"),
    (
        "C28-folder",
        "dangling link of a class folder",
        change(lambda root: (root / "bird").symlink_to("nowhere")),
        "W205",
    ),
    (
        "C29",
        "clip in iCloud, not on the disk",
        change(lambda root: (root / "cat" / ".9.wav.icloud").write_bytes(b"bplist00")),
        "E206",
    ),
    ("C29-fifo", "FIFO named like a clip", change(lambda root: os.mkfifo(root / "cat" / "9.wav")), "E206"),
    ("C30", "class folder that is a link", _linked_class, lambda value: len(value["train"]) == 3),
    ("C30-outside", "clips linked from elsewhere", _linked_class, "W216"),
    ("C30-loop", "links to a folder above and to itself", change(_loop), "W205"),
    ("C30-crossed", "six folders with links to each other", change(_crossed_links), "E208"),
    ("C31", "hidden clip", change(_hidden), "W205"),
    ("C31-folder", "hidden folder of clips", change(lambda root: wav(root / ".old" / "1.wav")), "W205"),
    (
        "C31-system",
        "files of macOS and Windows",
        change(_system_files),
        lambda value: set(value["train"]) == {"0.wav", "1.wav", "2.wav"},
    ),
    (
        "C32",
        "archive next to the clips",
        change(lambda root: shutil.make_archive(str(root / "more"), "zip", root)),
        "W205",
    ),
    (
        "C32-suffix",
        "clip named 0.wav.bak",
        change(lambda root: (root / "cat" / "0.wav").rename(root / "cat" / "0.wav.bak")),
        "W205",
    ),
    (
        "C32-sph",
        "clips of a corpus in SPHERE",
        change(lambda root: (root / "cat" / "9.sph").write_bytes(b"NIST_1A\n   1024\n")),
        "W205",
    ),
    (
        "C32-ape",
        "clips in a format that is not read",
        change(lambda root: (root / "cat" / "9.ape").write_bytes(b"MAC ")),
        "W205",
    ),
    ("C33", "clips in cat and in cat/tabby", change(_mixed), "E208"),
    ("C33-root", "clip next to the label folders", change(lambda root: wav(root / "9.wav")), "E208"),
    ("C33-empty", "empty class folder", change(lambda root: (root / "bird").mkdir()), "W205"),
    ("C34", "folder in another encoding", change(_not_unicode), "E206"),
    (
        "C34-twins",
        "one class in two Unicode forms",
        change(lambda root: [wav(root / name / "1.wav") for name in ("café", "cafe\u0301")]),
        "W207",
    ),
    ("C34-capitals", "classes cat and Cat", change(lambda root: wav(root / "Cat" / "1.wav")), "W207"),
]


def _partly(folder: Path) -> Path:
    root = with_splits(folder, "metadata.csv", _rows())
    wav(root / "train" / "9.wav")
    return root


def _twice(folder: Path) -> Path:
    root = with_splits(folder, "metadata.csv", _rows(inside="audio"), "audio")
    (root / "train" / "audio" / "metadata.csv").write_text("\n".join(_rows()))
    return root


CASES = [Case(id, title, prepare, read, right, stock_read) for id, title, prepare, right in [*S1, *S4]]
