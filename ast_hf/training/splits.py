"""Which clips of a recipe's data are trained on, watched while training, and reported on."""

from __future__ import annotations

from typing import Any, TypeAlias

from datasets import Dataset, DatasetDict, IterableDataset

from ..data.catalog import find_data_set
from ..data.holding_out import hold_out, random_fold
from ..data.reading import load_audio_dataset
from ..data.splits import check_splits
from ..errors import error
from ..recipe.options import DataOptions
from ..recipe.recipe import Recipe
from ..recipe.rules import check_streaming

Split: TypeAlias = Dataset | IterableDataset

#: Options of a recipe's data that are arguments of `load_audio_dataset`.
_READING = (
    "audio_column",
    "label_column",
    "split_column",
    "label_separator",
    "class_labels",
    "drop_labels",
    "audio_root",
    "split_lists",
    "clip_boundaries",
    "config_name",
    "merge_splits",
    "test_fold",
    "fold_column",
    "streaming",
)


def is_streamed(recipe: Recipe) -> bool:
    """Whether a recipe's data come as a stream; raises E307 for one that the recipe cannot be run on."""
    streamed = bool(_arguments(recipe.data).get("streaming"))
    if streamed:
        check_streaming(recipe, where=f"{recipe.data.source!r}, a stream")
    elif recipe.features.statistics_clips is not None:
        what = "is for streams; what is stored is measured whole"
        raise error("E307", where="features.statistics_clips", what=what, fix="leave it out, or set data.streaming")
    return streamed


def read_data(options: DataOptions, **changes: Any) -> DatasetDict:
    """All splits of a recipe's data, stored ones; `changes` are arguments of `load_audio_dataset`.

    Raises:
        AstConfigError: E307 without a source, and for one that comes as a stream.
        AstDataError: what reading raises.
    """
    arguments = {**_arguments(options), **changes}
    if arguments.get("streaming"):
        what = f"{options.source!r} comes as a stream, and a stream has no folds"
        fix = "download it and name its folder in AST_HF_DATA, or leave data.streaming out"
        raise error("E307", where="data.source", what=what, fix=fix)
    return load_audio_dataset(**arguments)


def read_splits(options: DataOptions, seed: int) -> tuple[Split, Split | None, dict[str, Split]]:
    """The split to train on, the one to watch (or None), and those to report on, by name.

    Raises:
        AstConfigError: E307 as `read_data`, but for streams; and for a group by which nothing is held out.
        AstDataError: E208 and E209 for splits and columns that do not fit what was asked for.
    """
    if options.validation_group and not options.validation_fraction and options.random_folds is None:
        what = f"is {options.validation_group!r}, but nothing is held out by it"
        fix = "set data.validation_fraction or data.random_folds, or leave it out"
        raise error("E307", where="data.validation_group", what=what, fix=fix)
    splits = _read_folded(options, seed)
    training = options.train_split if options.random_folds is None else "train"
    named = options.eval_splits
    evaluation = [name for name in splits if name != training] if named is None else named
    watched = ("validation",) if options.validation_fraction and "validation" not in splits else ()
    check_splits(splits, training, [name for name in evaluation if name not in watched])
    train, validation = splits[training], None
    if options.validation_fraction:
        parts: DatasetDict = hold_out(
            train, options.validation_fraction, group_column=options.validation_group, seed=seed
        )
        train, validation = parts["train"], parts["validation"]
        check_splits(parts, "train", ["validation"])
        evaluation = evaluation or ["validation"]
    elif training != "validation":
        validation = splits.get("validation")
    held = {"validation": validation} if validation is not None else {}
    return train, validation, {name: splits[name] if name in splits else held[name] for name in evaluation}


def _read_folded(options: DataOptions, seed: int) -> Any:
    """All splits of a recipe's data, or `train` and `test` of one of its random folds."""
    if options.random_folds is None:
        return load_audio_dataset(**_arguments(options))
    if options.test_fold is None:
        fix = f"name one, from 1 to {options.random_folds}, or run all of them with --folds {options.random_folds}"
        raise error("E307", where="data.random_folds", what="needs data.test_fold, the one to test on", fix=fix)
    splits = read_data(options, test_fold=None)
    check_splits(splits, options.train_split, [])
    return random_fold(
        splits[options.train_split],
        options.test_fold,
        options.random_folds,
        group_column=options.validation_group,
        seed=seed,
    )


def _arguments(options: DataOptions) -> dict[str, Any]:
    """Arguments of `load_audio_dataset`: those of a known data set, and the options that differ from their defaults."""
    if not options.source:
        raise error("E307", where="data.source", what="is not set", fix="name a folder, a table or a data set")
    usual = DataOptions()
    asked = {name: getattr(options, name) for name in _READING if getattr(options, name) != getattr(usual, name)}
    return {**find_data_set(options.source), **asked}
