"""Splits of a run, read by a recipe: to train on, to evaluate while training, and to report on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from inspect import signature
from typing import Any, NamedTuple, Protocol, TypeAlias

from datasets import Dataset, DatasetDict, IterableDataset

from ..data.catalog import find_data_set
from ..data.holding_out import hold_out_parts, hold_out_rows, random_fold_rows, select_parts
from ..data.naming_conventions import RECORDING
from ..data.reading import load_audio_dataset
from ..data.splits import check_splits, label_names, split_task
from ..errors import error
from ..recipe.options import DataOptions
from ..recipe.recipe import Recipe
from ..recipe.rules import check_streaming
from ..task import Task

Split: TypeAlias = Dataset | IterableDataset

#: Options of a recipe's data that are arguments of `load_audio_dataset`, by the same names.
_READING_OPTIONS = tuple(
    option.name
    for option in fields(DataOptions)
    if option.name in signature(load_audio_dataset).parameters and option.name != "source"
)


class ClipCheck(Protocol):
    """Check of a run's clips. `Preflight` explains the methods."""

    def __call__(self, splits: Any, names: Iterable[str]) -> Any: ...

    def divide(self, name: str, parts: Mapping[str, Sequence[int]]) -> None: ...

    def find_suspicious(self) -> None: ...


class Splits(NamedTuple):
    """Splits of a run."""

    train: Split
    validation: Split | None  # evaluated while training
    evaluation: dict[str, Split]  # to report on, by name
    train_name: str = "train"

    @property
    def task(self) -> Task:
        """Task of the training split."""
        return split_task(self.train)

    @property
    def labels(self) -> list[str]:
        """Label names of the training split, by index."""
        return label_names(self.train)


def is_streamed(recipe: Recipe) -> bool:
    """Return True if the data of a recipe are a stream; raise E307 for options that contradict it."""
    streamed = bool(_collect_arguments(recipe.data).get("streaming"))
    if streamed:
        check_streaming(recipe, where=f"{recipe.data.source!r}, a stream")
    elif recipe.features.statistics_clips is not None:
        what = "applies to streams only; stored clips are all measured"
        fix = "leave it out, or set data.streaming"
        raise error("E307", where="features.statistics_clips", what=what, fix=fix, detail="conflict")
    return streamed


def read_data(options: DataOptions, **changes: Any) -> DatasetDict:
    """Read all splits of a recipe's stored data; `changes` are arguments of `load_audio_dataset`.

    Raises:
        AstConfigError: E307 without a source, and for a stream.
        AstDataError: as `load_audio_dataset`.
    """
    arguments = {**_collect_arguments(options), **changes}
    _check_stored(options, arguments)
    return load_audio_dataset(**arguments)


def read_splits(options: DataOptions, seed: int, check: ClipCheck | None = None) -> Splits:
    """Read the splits of a run; `seed` draws held-out clips and random folds.

    `check` gets the splits before clips are held out, see `Preflight`; it also finds missing files.

    Raises:
        AstConfigError: E307 without a source, for random folds of a stream, and for groups if nothing is
            held out.
        AstDataError: E208 and E209 for columns and splits that do not fit the options.
    """
    _check_grouped(options)
    arguments = _collect_arguments(options)
    training = options.train_split
    if options.random_folds is not None:
        _check_random_fold(options, arguments)
        arguments["test_fold"] = None  # it counts random folds, not those of a column
    splits = load_audio_dataset(**arguments, check_files=check is None or "streaming" in arguments)
    if check is not None:
        splits = check(splits, _used_splits(options, splits))
    if options.random_folds is not None and options.test_fold is not None:
        check_splits(splits, training, [])
        parts = random_fold_rows(
            splits[training],
            options.test_fold,
            options.random_folds,
            group_column=group_column(options),
            group_pattern=options.group_pattern,
            seed=seed,
        )
        splits = _divide(splits[training], training, parts, check)
        training = "train"
    evaluation = options.eval_splits
    if evaluation is None:
        evaluation = [name for name in splits if name != training]
    held_out = [name for name, share in _fractions(options).items() if share and name not in splits]
    check_splits(splits, training, [name for name in evaluation if name not in held_out])
    if held_out:
        parts = _hold_out(splits[training], options, held_out, seed)
        divided = _divide(splits[training], training, parts, check)
        check_splits(divided, "train", held_out)
        splits = DatasetDict({**splits, training: divided.pop("train"), **divided})
    if "test" in held_out and options.eval_splits is None:
        evaluation = [*evaluation, "test"]
    if "validation" in held_out:
        evaluation = evaluation or ["validation"]
    if check is not None:
        check.find_suspicious()
    validation = splits.get("validation") if training != "validation" or "validation" in held_out else None
    return Splits(splits[training], validation, {name: splits[name] for name in evaluation}, training)


def _fractions(options: DataOptions) -> dict[str, float]:
    """Return the shares of the training split to hold out, in the order in which they are drawn."""
    return {"test": options.test_fraction, "validation": options.validation_fraction}


def _check_grouped(options: DataOptions) -> None:
    """Raise E307 for groups if nothing is held out by them."""
    if options.validation_fraction or options.test_fraction or options.random_folds is not None:
        return
    for name in ("validation_group", "group_pattern"):
        if value := getattr(options, name):
            what = f"is {value!r}, but nothing is held out by it"
            fix = "set data.test_fraction, data.validation_fraction or data.random_folds, or leave it out"
            raise error("E307", where=f"data.{name}", what=what, fix=fix, detail="conflict")


def _hold_out(
    split: Dataset, options: DataOptions, held_out: Sequence[str], seed: int
) -> dict[str, Sequence[int]]:
    """Return the numbers of the clips that stay in training, and of those that are held out for each split."""
    groups: dict[str, Any] = {"group_column": group_column(options), "group_pattern": options.group_pattern}
    if list(held_out) == ["validation"]:
        return hold_out_rows(split, options.validation_fraction, seed=seed, **groups)
    fractions = {name: _fractions(options)[name] for name in held_out}
    return hold_out_parts(split, fractions, seed=seed, **groups)


def group_column(options: DataOptions) -> str | None:
    """Return the column whose values stay together when clips are held out: of windows, their recording.

    It is None for clips that are drawn one by one, and for groups that `group_pattern` finds.
    """
    if (
        options.validation_group is None
        and options.group_pattern is None
        and options.window_seconds is not None
    ):
        return RECORDING
    return options.validation_group


def _divide(
    split: Dataset, name: str, parts: Mapping[str, Sequence[int]], check: ClipCheck | None
) -> DatasetDict:
    """Return parts of the training split, which `check` notes."""
    if check is not None:
        check.divide(name, parts)
    return select_parts(split, parts)


def _used_splits(options: DataOptions, splits: Iterable[str]) -> list[str]:
    """Return the names of the splits that a run trains or evaluates on, the former first."""
    training = options.train_split
    others = [] if options.random_folds is not None else [name for name in splits if name != training]
    if options.eval_splits is not None:
        others = [name for name in others if name in ("validation", *options.eval_splits)]
    return [training, *others]


def _check_stored(options: DataOptions, arguments: dict[str, Any]) -> None:
    """Raise E307 for a stream, which has no folds."""
    if arguments.get("streaming"):
        what = f"{options.source!r} is read as a stream, and a stream has no folds"
        fix = "download it and name its folder in AST_HF_DATA, or leave data.streaming out"
        raise error("E307", where="data.source", what=what, fix=fix, detail="conflict")


def _check_random_fold(options: DataOptions, arguments: dict[str, Any]) -> None:
    """Raise E307 for random folds without `test_fold`, and for a stream."""
    if options.test_fold is None:
        count = options.random_folds
        what = "needs data.test_fold, the fold to test on"
        fix = f"set it, from 1 to {count}, or run all folds with --folds {count}"
        raise error("E307", where="data.random_folds", what=what, fix=fix, detail="missing")
    _check_stored(options, arguments)


def _collect_arguments(options: DataOptions) -> dict[str, Any]:
    """Return the arguments of `load_audio_dataset`: those of the catalog, replaced by options that are set."""
    if not options.source:
        fix = "name a folder, a table or a data set"
        raise error("E307", where="data.source", what="is not set", fix=fix, detail="missing")
    defaults = DataOptions()
    values = {name: getattr(options, name) for name in _READING_OPTIONS}
    changed = {name: value for name, value in values.items() if value != getattr(defaults, name)}
    return {**find_data_set(options.source), **changed}
