"""Clips held out of training: a validation split, a fold that a column names, or a random fold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset, DatasetDict

from ..errors import AstHfError, did_you_mean, error
from ..task import Task
from .drawing import draw_rows
from .grouping import read_groups, unique_names
from .option_spelling import option
from .splits import label_lists, label_names, split_task


def hold_out(dataset: Dataset, fraction: float, *, group_column: str | None, seed: int) -> DatasetDict:
    """Split clips into `train` and `validation`, see `hold_out_rows`."""
    return select_parts(dataset, hold_out_rows(dataset, fraction, group_column=group_column, seed=seed))


def select_parts(dataset: Dataset, parts: Mapping[str, Sequence[int]]) -> DatasetDict:
    """Return parts of a split, by name: `parts` are numbers of its clips."""
    return DatasetDict({name: dataset.select(rows) for name, rows in parts.items()})


def hold_out_rows(
    dataset: Dataset,
    fraction: float,
    *,
    group_column: str | None,
    seed: int,
    group_pattern: str | None = None,
) -> dict[str, Sequence[int]]:
    """Return the numbers of the clips of `train` and `validation`; those of one group stay together.

    Single-label data are stratified. Without a group column rows are split, which overstates accuracy where
    clips of one source resemble each other. scikit-learn draws, as in all versions of this package; where it
    cannot, or would leave a label without a clip in `train`, `hold_out_parts` does.

    Args:
        dataset: the clips, not a stream.
        fraction: share of the clips in `validation`, in (0, 1).
        group_column: column whose values stay together, None to split row by row.
        seed: seed of the random split.
        group_pattern: regular expression that finds the group in each path instead.

    Raises:
        AstDataError: E209 for a stream, and for too few clips or groups; E208 for an unknown group column or a
            row without a group.
    """
    _check_stored(dataset, "validation_fraction")
    classes = _strata(dataset)
    groups = _groups(dataset, group_column, group_pattern)
    splitter = _holdout_splitter(fraction, classes, groups, seed)
    try:
        train, validation = next(splitter.split(range(len(dataset)), classes, groups))
    except ValueError:
        train, validation = [], []
    if _labels_of(dataset, train) == _labels_of(dataset, range(len(dataset))):
        return {"train": train, "validation": validation}
    fractions = {"validation": fraction}
    return hold_out_parts(
        dataset, fractions, group_column=group_column, group_pattern=group_pattern, seed=seed
    )


def hold_out_parts(
    dataset: Dataset,
    fractions: Mapping[str, float],
    *,
    group_column: str | None = None,
    group_pattern: str | None = None,
    seed: int,
) -> dict[str, Sequence[int]]:
    """Return the numbers of the clips of `train` and of each part, drawn in their order by `draw_rows`.

    The draw depends on the names of groups, or of files, and not on the order of the clips.

    Args:
        dataset: the clips, not a stream.
        fractions: part (`test`, `validation`) -> share of the clips, each in (0, 1).
        group_column: column whose values stay together.
        group_pattern: regular expression that finds the group in each path instead. Without both, clips are drawn
            one by one.
        seed: seed of the draw.

    Raises:
        AstDataError: as `hold_out_rows`; E209 also if every group has the only clips of a label.
    """
    _check_stored(dataset, f"{next(iter(fractions))}_fraction")
    group = group_column or group_pattern
    unit = "clip" if group is None else f"value of {group!r}"
    keys = group_values(dataset, group_column=group_column, group_pattern=group_pattern)
    names = label_names(dataset)
    rows = draw_rows(label_lists(dataset), keys, fractions, seed=seed, label_names=names, unit=unit)
    return dict(rows)


def _check_stored(dataset: Any, where: str) -> None:
    """Raise E209 for a stream."""
    if not isinstance(dataset, Dataset):
        fix = "give a validation split, or do not stream"
        raise error("E209", where=where, what="cannot hold out clips of a stream", fix=fix)


def _labels_of(dataset: Dataset, rows: Iterable[int]) -> set[int]:
    """Return the labels that clips have."""
    labels = label_lists(dataset)
    return {index for row in rows for index in labels[row]}


def _strata(dataset: Dataset) -> Any:
    """Return the class index of each clip, None for multi-label data, which are not stratified."""
    task = split_task(dataset)
    return dataset[task.label_column] if task is Task.SINGLE_LABEL else None


def _holdout_splitter(fraction: float, classes: Any, groups: list[Any] | None, seed: int) -> Any:
    from sklearn import model_selection

    if classes is not None and groups is not None:
        folds = min(round(1 / fraction), len(set(groups)))
        return model_selection.StratifiedGroupKFold(n_splits=max(2, folds), shuffle=True, random_state=seed)
    if groups is not None:
        return model_selection.GroupShuffleSplit(n_splits=1, test_size=fraction, random_state=seed)
    kind = model_selection.StratifiedShuffleSplit if classes else model_selection.ShuffleSplit
    return kind(n_splits=1, test_size=fraction, random_state=seed)


def fold_name(value: Any) -> str:
    """Return the name of a fold, `"1"` for 1, `"1"` and 1.0 (pandas writes integers with gaps as floats)."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return str(int(number)) if number.is_integer() else str(value)


@dataclass(frozen=True)
class FoldChoice:
    """One fold as the split `test`, all others as `train`.

    Attributes:
        test_fold: name of the fold, see `fold_name`.
        column: column with the fold of each clip.
    """

    test_fold: str
    column: str

    @classmethod
    def of(cls, test_fold: int | str | None, column: str) -> FoldChoice | None:
        """Return the choice for the arguments of `load_audio_dataset`, or None if `test_fold` is None."""
        return None if test_fold is None else cls(fold_name(test_fold), column)

    def split(self, row: Mapping[str, Any]) -> str:
        """Return `"test"` for a row of the test fold, else `"train"`."""
        return "test" if fold_name(row[self.column]) == self.test_fold else "train"

    def check_not_empty(self, folds: Iterable[Any]) -> None:
        """Raise E209 if none of the clips' folds is the test fold."""
        names = sorted({fold_name(fold) for fold in folds})
        if self.test_fold not in names:
            what = f"no clip is in fold {self.test_fold}, the folds are {', '.join(names)}"
            raise error("E209", where="test_fold", what=what, fix="name one of them")

    def missing_column(self, where: str, columns: Iterable[str]) -> AstHfError:
        """Return the E208 for a table or row without a fold."""
        what = f"has no column {self.column!r}; its columns are {', '.join(columns)}"
        return error("E208", where=where, what=what, fix=f"name the column with {option('fold_column')}")


def fold_names(splits: DatasetDict, column: str) -> list[str]:
    """Return the folds in a column, numbers in ascending order; raise E208 for a clip without a fold."""
    names: set[str] = set()
    for split, part in splits.items():
        for row, value in enumerate(part[column], start=1):
            if value is None or str(value).strip() == "":
                where = f"split {split!r} row {row}, column {column!r}"
                raise error("E208", where=where, what="has no fold", fix="give it a fold or remove the row")
            names.add(fold_name(value))
    return sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))


def random_fold(
    dataset: Dataset, test_fold: int | str, count: int, *, group_column: str | None, seed: int
) -> DatasetDict:
    """Return one of `count` random folds as the split `test`, the others as `train`, see `random_fold_rows`."""
    rows = random_fold_rows(dataset, test_fold, count, group_column=group_column, seed=seed)
    return select_parts(dataset, rows)


def random_fold_rows(
    dataset: Dataset,
    test_fold: int | str,
    count: int,
    *,
    group_column: str | None,
    seed: int,
    group_pattern: str | None = None,
) -> dict[str, Sequence[int]]:
    """Return the numbers of the clips of one of `count` random folds as `test`, of the others as `train`.

    Args:
        dataset: all clips. Single-label clips are stratified.
        test_fold: the fold, from 1 to `count`; with the same seed and count, each clip is in one of them.
        count: number of folds.
        group_column: column (speaker, recording) whose values stay together; None to draw clip by clip.
        seed: seed of the random folds; those of grouped multi-label clips are the same for every seed.
        group_pattern: regular expression that finds the group in each path instead.

    Raises:
        AstDataError: E208 for an unknown column, E209 for too few clips or groups and for an unknown fold.
    """
    names = [str(number) for number in range(1, count + 1)]
    if fold_name(test_fold) not in names:
        what = f"{test_fold!r} is not a fold"
        raise error("E209", where="test_fold", what=what, fix=f"name one from 1 to {count}")
    groups = _groups(dataset, group_column, group_pattern)
    _check_enough(dataset, groups, group_column or group_pattern, count)
    classes = _strata(dataset)
    splitter = _fold_splitter(count, classes, groups, seed)
    try:
        parts = list(splitter.split(range(len(dataset)), classes, groups))
    except ValueError as problem:
        what = f"cannot make {count}: {problem}"
        raise error("E209", where="folds", what=what, fix="add clips or make fewer folds") from None
    train, test = parts[names.index(fold_name(test_fold))]
    return {"train": train, "test": test}


def _check_enough(dataset: Dataset, groups: list[Any] | None, group_column: str | None, count: int) -> None:
    """Raise E209 for fewer clips or groups than folds."""
    number = len(dataset) if groups is None else len(set(groups))
    if number < count:
        units = "clips" if groups is None else f"values of {group_column!r}"
        what = f"{number} {units} do not make {count} folds"
        raise error("E209", where="folds", what=what, fix="add some, or make fewer folds")


def _fold_splitter(count: int, classes: Any, groups: list[Any] | None, seed: int) -> Any:
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    if classes is None and groups is not None:
        return GroupKFold(count)
    if classes is None:
        return KFold(count, shuffle=True, random_state=seed)
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    return kind(count, shuffle=True, random_state=seed)


def group_values(
    dataset: Dataset, *, group_column: str | None = None, group_pattern: str | None = None
) -> list[str]:
    """Return the group of each clip, by a column or else a pattern, as `hold_out_parts` sees it.

    Raises E208 for an unknown column, and for a clip without a group.
    """
    groups = _groups(dataset, group_column, group_pattern)
    return unique_names(dataset) if groups is None else list(map(str, groups))


def _groups(dataset: Dataset, column: str | None, pattern: str | None = None) -> list[Any] | None:
    """Return the group of each clip, None without a column or pattern; raise E208 for an unknown column or a gap."""
    if pattern is not None:
        return read_groups(dataset, pattern)
    if column is None:
        return None
    if column not in dataset.column_names:
        fix = did_you_mean(column, dataset.column_names)
        raise error("E208", where="validation_group", what=f"column {column!r} does not exist", fix=fix)
    groups = list(dataset[column])
    if None in groups:
        where = f"row {groups.index(None) + 1}, column {column!r}"
        raise error("E208", where=where, what="has no value", fix="give it a group, a new one if it is alone")
    return groups
