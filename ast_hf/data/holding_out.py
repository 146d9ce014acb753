"""Clips that are held out of training: a validation split, or one of several folds."""

from __future__ import annotations

from typing import Any

from datasets import Dataset, DatasetDict

from ..errors import did_you_mean, error
from .folds import fold_name
from .splits import is_multi_label, label_counts, label_names


def hold_out(dataset: Dataset, fraction: float, *, group_column: str | None, seed: int) -> DatasetDict:
    """Split clips into `train` and `validation`, keeping whole groups (speakers, recordings) on one side.

    Single-label data are stratified. Without a group column rows are split, which overstates accuracy where clips of
    one source resemble each other. A stream cannot be split: E209.
    """
    from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedGroupKFold, StratifiedShuffleSplit

    if not isinstance(dataset, Dataset):
        what = "cannot hold out clips of a stream"
        raise error("E209", where="validation_fraction", what=what, fix="give a validation split, or do not stream")
    classes = None if is_multi_label(dataset) else dataset["label"]
    groups = _groups(dataset, group_column)
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


def fold_names(splits: DatasetDict, column: str) -> list[str]:
    """The folds that a column names, numbers in their order; raises E208 for clips that are in none."""
    named: set[str] = set()
    for split, part in splits.items():
        for row, value in enumerate(part[column], start=1):
            if value is None or str(value).strip() == "":
                where = f"split {split!r} row {row}, column {column!r}"
                raise error("E208", where=where, what="has no fold", fix="give it a fold or remove the row")
            named.add(fold_name(value))
    return sorted(named, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))


def random_fold(
    dataset: Dataset, test_fold: int | str, count: int, *, group_column: str | None, seed: int
) -> DatasetDict:
    """One of `count` random folds as the split `test`, the others as `train`.

    Args:
        dataset: all clips. Single-label ones are stratified.
        test_fold: the fold, from 1 to `count`; all folds of one seed and count belong together.
        count: how many there are.
        group_column: column (speaker, recording) whose values stay together; None to draw clip by clip.
        seed: draws them; folds of groups of multi-label clips are the same for every seed.

    Raises:
        AstDataError: E208 for an unknown column, E209 for too few clips or groups and for a fold that there is not.
    """
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    names = [str(number) for number in range(1, count + 1)]
    if fold_name(test_fold) not in names:
        raise error("E209", where="test_fold", what=f"{test_fold!r} is no fold", fix=f"name one from 1 to {count}")
    groups = _groups(dataset, group_column)
    if len(units := range(len(dataset)) if groups is None else set(groups)) < count:
        what = f"{len(units)} {'clips' if groups is None else f'values of {group_column!r}'} do not make {count} folds"
        raise error("E209", where="folds", what=what, fix="add some, or make fewer folds")
    classes, drawn = None if is_multi_label(dataset) else dataset["label"], {"shuffle": True, "random_state": seed}
    kinds: dict[tuple[bool, bool], Any] = {
        (True, True): lambda: StratifiedGroupKFold(count, **drawn),
        (True, False): lambda: StratifiedKFold(count, **drawn),
        (False, True): lambda: GroupKFold(count),
        (False, False): lambda: KFold(count, **drawn),
    }
    splitter = kinds[classes is not None, groups is not None]()
    try:
        parts = list(splitter.split(range(len(dataset)), classes, groups))
    except ValueError as problem:
        what = f"cannot make {count}: {problem}"
        raise error("E209", where="folds", what=what, fix="add clips or make fewer folds") from None
    train, test = parts[names.index(fold_name(test_fold))]
    return DatasetDict(train=dataset.select(train), test=dataset.select(test))


def _groups(dataset: Dataset, column: str | None) -> Any:
    """The values of a column whose clips have to stay together; raises E208 for an unknown column, and for gaps."""
    if column is not None and column not in dataset.column_names:
        fix = did_you_mean(column, dataset.column_names)
        raise error("E208", where="validation_group", what=f"there is no column {column!r}", fix=fix)
    groups = list(dataset[column]) if column else None
    if groups is not None and None in groups:
        where = f"row {groups.index(None) + 1}, column {column!r}"
        raise error("E208", where=where, what="has no value", fix="give it one, its own where it belongs to no group")
    return groups
