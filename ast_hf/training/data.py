"""Labelled audio from anywhere: label folders, metadata files, CSV, data sets on the Hub -> one shape of `DatasetDict`.

Every split has the columns `audio` (path or bytes, not decoded: `ast_hf.load_audio` does that, so no torchcodec is
needed) and `label` (a `ClassLabel`) or, for multi-label data, `labels` (a list of them). Other columns are kept.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import datasets
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, Value

from ..errors import did_you_mean, error

#: Files that are taken for audio in label folders: what soundfile decodes.
AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".oga", ".mp3", ".aif", ".aiff", ".au", ".w64"})

#: Names of columns, in the order they are looked for.
PATH_COLUMNS = ("file_name", "path", "audio", "file", "filename")
LABEL_COLUMNS = ("label", "labels", "class", "category", "target")
METADATA_FILES = ("metadata.csv", "metadata.jsonl", "manifest.csv")

#: Folder and split names that mean the same.
SPLIT_NAMES = {"train": "train", "training": "train", "validation": "validation", "valid": "validation"} | {
    "val": "validation", "dev": "validation", "eval": "validation", "test": "test", "testing": "test"
}  # fmt: skip

Row = dict[str, Any]


def load_audio_dataset(
    source: str | Path,
    *,
    audio_column: str | None = None,
    label_column: str | None = None,
    split_column: str = "split",
    label_separator: str | None = None,
) -> DatasetDict:
    """Read labelled audio.

    Args:
        source: one of
            - a folder of label folders (`cat/1.wav`), with or without split folders above them (`train/cat/1.wav`),
            - a folder with `metadata.csv` or `metadata.jsonl` (`file_name`, label, optional split column),
            - a CSV, TSV or JSONL file of paths (relative to the file) and labels,
            - the name of a data set on the Hub with an audio column.
        audio_column: column of the paths or the audio; found by its usual names when None.
        label_column: column of the labels; found by its usual names when None.
        split_column: column that names each row's split; without it everything is `"train"`.
        label_separator: what separates the labels of one clip, for multi-label tables (`"dog;bark"`); a list in
            JSONL or on the Hub is multi-label by itself.

    Returns:
        DatasetDict as the module describes; the label names are the same in all splits, sorted.

    Raises:
        AstDataError: E206 for missing paths, E208 for columns and labels (naming the row), E209 for too few classes.
    """
    path = Path(source)
    if path.is_dir():
        metadata = next((path / name for name in METADATA_FILES if (path / name).exists()), None)
        rows = _read_table(metadata) if metadata else _read_label_folders(path)
        where, root = str(metadata or path), path
    elif path.is_file():
        rows, where, root = _read_table(path), str(path), path.parent
    elif path.suffix.lower() in _TABLES or str(source).startswith((".", "/")):
        raise error("E206", where=repr(str(source)), what="does not exist", fix="check the path")
    else:
        return _from_hub(str(source), audio_column, label_column)
    audio = _column(rows, audio_column, PATH_COLUMNS, where)
    label = _column(rows, label_column, LABEL_COLUMNS, where)
    _check_rows(rows, audio, label, root, where)
    return _from_rows(rows, audio, label, split_column, label_separator, root)


def label_names(dataset: Dataset) -> list[str]:
    """Names of the classes of a split of `load_audio_dataset`, by index."""
    feature = dataset.features["labels" if "labels" in dataset.column_names else "label"]
    return list(getattr(feature, "feature", feature).names)


def is_multi_label(dataset: Dataset) -> bool:
    """Whether clips may have several labels."""
    return "labels" in dataset.column_names


def check_splits(splits: DatasetDict, train: str, evaluation: Iterable[str]) -> None:
    """Raise E209 when a split is missing or empty, or the training split has fewer than two classes."""
    for name in (train, *evaluation):
        if name not in splits:
            raise error("E209", where=f"split {name!r}", what="does not exist", fix=did_you_mean(name, splits))
        if not len(splits[name]):
            raise error("E209", where=f"split {name!r}", what="has no clips", fix="add clips or leave it out")
    names, counts = label_names(splits[train]), label_counts(splits[train])
    if len(names) < 2:
        what = f"has {len(names)} class ({', '.join(names)}), there is nothing to tell apart"
        raise error("E209", where=f"split {train!r}", what=what, fix="give clips of at least two classes")
    missing = [name for index, name in enumerate(names) if not counts[index]]
    if missing:
        what = f"has no clip of {', '.join(missing[:5])}"
        fix = "add clips, or drop the class; where clips were held out, hold out others"
        raise error("E209", where=f"split {train!r}", what=what, fix=fix)


def label_counts(dataset: Dataset) -> Counter[int]:
    """Clips of each class index."""
    if is_multi_label(dataset):
        return Counter(index for labels in dataset["labels"] for index in labels)
    return Counter(dataset["label"])


def hold_out(dataset: Dataset, fraction: float, *, group_column: str | None, seed: int) -> DatasetDict:
    """Split clips into `train` and `validation`, keeping whole groups (speakers, recordings) on one side.

    Single-label data are stratified. Without a group column rows are split, which overstates accuracy where clips of
    one source resemble each other.
    """
    from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedGroupKFold, StratifiedShuffleSplit

    classes = None if is_multi_label(dataset) else dataset["label"]
    if group_column is not None and group_column not in dataset.column_names:
        fix = did_you_mean(group_column, dataset.column_names)
        raise error("E208", where="validation_group", what=f"there is no column {group_column!r}", fix=fix)
    groups = dataset[group_column] if group_column else None
    for index, count in () if classes is None else label_counts(dataset).items():
        if count < 2:
            what = f"{label_names(dataset)[index]!r} has a single clip, which cannot stand on both sides"
            raise error("E209", where="validation_fraction", what=what, fix="add clips, or drop the class")
    if groups is not None and classes is not None:
        folds = min(max(2, round(1 / fraction)), len(set(groups)))
        splitter: Any = StratifiedGroupKFold(n_splits=max(2, folds), shuffle=True, random_state=seed)
    else:
        kind = GroupShuffleSplit if groups is not None else StratifiedShuffleSplit if classes else ShuffleSplit
        splitter = kind(n_splits=1, test_size=fraction, random_state=seed)
    try:
        train, validation = next(splitter.split(range(len(dataset)), classes, groups))
    except ValueError as problem:
        fix = "add clips or groups, hold out another share, or give a validation split of your own"
        raise error(
            "E209", where="validation_fraction", what=f"cannot hold out {fraction}: {problem}", fix=fix
        ) from None
    return DatasetDict(train=dataset.select(train), validation=dataset.select(validation))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as problem:
        what = f"is not UTF-8 ({problem.reason} at byte {problem.start})"
        raise error("E208", where=repr(str(path)), what=what, fix="save the table as UTF-8") from problem


def _read_csv(path: Path) -> list[Row]:
    reader = csv.DictReader(_read_text(path).splitlines(), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    rows = list(reader)
    for number, row in enumerate(rows, start=1):
        if None in row:
            what = f"has {len(row[None])} fields more than the head line"
            raise error("E208", where=f"{path} row {number}", what=what, fix="quote fields that hold the separator")
    return rows


def _read_jsonl(path: Path) -> list[Row]:
    rows = []
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as problem:
            what = f"is not JSON ({problem})"
            raise error("E208", where=f"{path} line {number}", what=what, fix="write one object per line") from problem
        if not isinstance(row, dict):
            what = f"is a {type(row).__name__}, not an object"
            raise error("E208", where=f"{path} line {number}", what=what, fix="write one object per line")
        rows.append(row)
    return rows


_TABLES: dict[str, Callable[[Path], list[Row]]] = {".csv": _read_csv, ".tsv": _read_csv, ".jsonl": _read_jsonl}


def _read_table(path: Path) -> list[Row]:
    if path.suffix.lower() not in _TABLES:
        fix = "give a folder, or a file ending in " + ", ".join(_TABLES)
        raise error("E208", where=repr(str(path)), what="is no table of labels", fix=fix)
    rows = _TABLES[path.suffix.lower()](path)
    if not rows:
        raise error("E209", where=repr(str(path)), what="has no rows", fix="list at least one clip per class")
    return rows


def _read_label_folders(root: Path) -> list[Row]:
    """`label/clip` or `split/label/clip`; the split folders are known by their names."""
    rows = []
    for file in sorted(root.rglob("*")):
        if file.suffix.lower() not in AUDIO_SUFFIXES or file.name.startswith(".") or not file.is_file():
            continue
        parts = file.relative_to(root).parts
        split = SPLIT_NAMES.get(parts[0].lower()) if len(parts) > 2 else None
        folders = parts[1:-1] if split else parts[:-1]
        if not folders:
            what = "lies beside the label folders, so it has no label"
            raise error("E208", where=repr(str(file)), what=what, fix="move it into a folder named after its label")
        rows.append({"file_name": str(file.relative_to(root)), "label": "/".join(folders), "split": split or "train"})
    if not rows:
        what = f"holds no audio ({', '.join(sorted(AUDIO_SUFFIXES))}) and no metadata.csv"
        raise error("E209", where=repr(str(root)), what=what, fix="give one folder of clips per label")
    return rows


def _column(rows: list[Row], wanted: str | None, usual: tuple[str, ...], where: str) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in (wanted,) if wanted else usual:
        if name in names:
            return name
    what = f"has the columns {', '.join(names)}, none is {repr(wanted) if wanted else 'one of ' + ', '.join(usual)}"
    raise error("E208", where=repr(where), what=what, fix="name the column with audio_column= or label_column=")


def _check_rows(rows: list[Row], audio: str, label: str, root: Path, where: str) -> None:
    missing = []
    for number, row in enumerate(rows, start=1):
        given = row.get(label)
        if given is None or given == [] or not str(given).strip():
            fix = "give it a label or remove the row"
            raise error("E208", where=f"{where} row {number}, column {label!r}", what="has no label", fix=fix)
        if not (root / str(row.get(audio) or "")).is_file():
            missing.append((number, row.get(audio)))
    if missing:
        number, name = missing[0]
        what = f"{name!r} does not exist" + (f" ({len(missing)} such rows)" if len(missing) > 1 else "")
        fix = f"paths are taken relative to {str(root)!r}; correct them or remove the rows"
        raise error("E206", where=f"{where} row {number}, column {audio!r}", what=what, fix=fix)


def _from_rows(
    rows: list[Row], audio: str, label: str, split_column: str, separator: str | None, root: Path
) -> DatasetDict:
    several = separator is not None or any(isinstance(row[label], list) for row in rows)
    for row in rows:
        value = row.pop(label)
        row["labels" if several else "label"] = _label_list(value, separator) if several else str(value).strip()
        row["audio"] = str((root / row.pop(audio)).resolve())
    names = sorted({name for row in rows for name in (row["labels"] if several else [row["label"]])})
    by_split: dict[str, list[Row]] = {}
    for row in rows:
        given = str(row.get(split_column) or "train")
        by_split.setdefault(SPLIT_NAMES.get(given.lower(), given), []).append(row)
    return DatasetDict({split: _encode(part, names, several) for split, part in by_split.items()})


def _label_list(value: Any, separator: str | None) -> list[str]:
    parts = value if isinstance(value, list) else str(value).split(separator) if separator else [value]
    return [str(part).strip() for part in parts if str(part).strip()]


def _encode(rows: list[Row], names: list[str], several: bool) -> Dataset:
    column = "labels" if several else "label"
    feature = ClassLabel(names=names)
    others = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in ("audio", column)]
    table: dict[str, list[Any]] = {"audio": [row["audio"] for row in rows], column: [row[column] for row in rows]}
    table |= {name: [None if row.get(name) is None else str(row[name]) for row in rows] for name in others}
    features = Features({"audio": Value("string"), column: [feature] if several else feature})
    features |= {name: Value("string") for name in others}
    return Dataset.from_dict(table, features=features).cast_column("audio", Audio(decode=False))


def _from_hub(name: str, audio_column: str | None, label_column: str | None) -> DatasetDict:
    splits = datasets.load_dataset(name)
    assert isinstance(splits, DatasetDict)
    features = next(iter(splits.values())).features
    sounding = [column for column, feature in features.items() if isinstance(feature, Audio)]
    audio = audio_column or (sounding[0] if sounding else None)
    label = label_column or next((column for column in LABEL_COLUMNS if column in features), None)
    for column, found, argument in (("audio", audio, "audio_column"), ("label", label, "label_column")):
        if found not in features:
            named = f" {found!r}" if found else ""
            what = f"has no {column} column{named}; its columns are {', '.join(features)}"
            raise error("E208", where=f"data set {name!r}", what=what, fix=f"name it with {argument}=")
    several = not isinstance(features[label], (ClassLabel, Value))
    target = "labels" if several else "label"
    splits = splits.cast_column(audio, Audio(decode=False))
    for old, new in ((audio, "audio"), (label, target)):
        splits = splits if old == new else splits.rename_column(old, new)
    kind = getattr(
        features[label], "feature", features[label][0] if isinstance(features[label], list) else features[label]
    )
    return splits if isinstance(kind, ClassLabel) else _class_encode(splits, target, several)


def _class_encode(splits: DatasetDict, column: str, several: bool) -> DatasetDict:
    """One set of label names over all splits (`class_encode_column` would number each split by itself)."""
    for split, part in splits.items():
        for number, value in enumerate(part[column]):
            if value is None:
                where = f"split {split!r} row {number}, column {column!r}"
                raise error("E208", where=where, what="has no label", fix="give it a label or remove the row")
    values = [value for part in splits.values() for value in part[column]]
    names = sorted({str(name) for value in values for name in (value if several else [value])})
    feature = ClassLabel(names=names)

    def encode(row: Row) -> Row:
        value = row[column]
        return {column: [feature.str2int(str(name)) for name in value] if several else feature.str2int(str(value))}

    features = splits[next(iter(splits))].features | {column: [feature] if several else feature}
    return splits.map(encode, features=Features(features))
