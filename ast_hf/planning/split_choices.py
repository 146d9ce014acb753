"""Which clips are held out: the test split, the validation split, and by which groups."""

from __future__ import annotations

from .choice import Choice
from .data_summary import DataSummary

#: Share of the training split that is held out to watch the training. A fifth of 300 clips is 60, which shows
#: differences of about 10 points; of more clips a smaller share does the same.
SMALL_SHARE = 0.2
LARGE_SHARE = 0.1
#: Training clips from which the smaller share is enough: 200 clips, a standard error below 3.5 points.
LARGE_SET = 2_000
#: Share of all clips that becomes the test split.
TEST_SHARE = 0.2
#: Clips of the typical class from which clips are held out to watch, and from which a test split is made as well.
#: Below, a class would have one or two clips there, and cross-validation (`--folds`) says more.
WATCHED_CLASS = 8
TESTED_CLASS = 15
#: Groups needed to hold some of them out, that of `ast_hf.data.grouping`.
LEAST_GROUPS = 4


def choose_splits(summary: DataSummary) -> list[Choice]:
    """Return the choices of the test split, of the validation split, and of what stays together in them."""
    choices = [*_choose_test(summary), *_choose_validation(summary)]
    held_out = {"data.test_fraction", "data.validation_fraction"} & {choice.option for choice in choices}
    if held_out and has_groups(summary):
        reason = f"none in two splits: {summary.group_reason}"
        choices += [Choice(f"data.{name}", value, reason) for name, value in summary.group_options.items()]
    return choices


def has_groups(summary: DataSummary) -> bool:
    """Return True if there are enough speakers, recordings or other sources to hold some of them out."""
    return bool(summary.group_options) and summary.groups >= LEAST_GROUPS


def watches(summary: DataSummary) -> bool:
    """Return True if a run has clips that it can watch: a validation split, or enough clips to hold some out."""
    return summary.has_validation or summary.typical_class >= WATCHED_CLASS


def has_test(summary: DataSummary) -> bool:
    """Return True if a run has a test split."""
    return bool(summary.test_splits or summary.folds) or _makes_test(summary)


def test_share(summary: DataSummary) -> float:
    """Return the share of the training split that becomes the test split, 0 if it is stored or too small."""
    if summary.test_splits:
        return 0.0
    if summary.folds:
        return 1 / len(summary.folds)
    return TEST_SHARE if _makes_test(summary) else 0.0


def validation_share(summary: DataSummary) -> float:
    """Return the share of the training split that becomes the validation split, 0 if it is stored or too small."""
    if summary.has_validation or not watches(summary):
        return 0.0
    return LARGE_SHARE if summary.train_clips >= LARGE_SET else SMALL_SHARE


def trained_clips(summary: DataSummary) -> int:
    """Return about how many clips a run trains on, without those held out."""
    held_out = validation_share(summary)
    tested = test_share(summary)
    share = (1 - tested) * (1 - held_out) if summary.folds else 1 - tested - held_out
    return max(1, round(summary.train_clips * share))


def _makes_test(summary: DataSummary) -> bool:
    return not summary.test_splits and not summary.folds and summary.typical_class >= TESTED_CLASS


def _choose_test(summary: DataSummary) -> list[Choice]:
    if summary.folds and not summary.test_splits:
        first = summary.folds[0]
        value = int(first) if first.isdecimal() else first
        count = len(summary.folds)
        reason = (
            f"one of {count} folds in column {summary.fold_column!r}; --folds {count} tests on each in turn"
        )
        return [Choice("data.test_fold", value, reason)]
    if not _makes_test(summary):
        return []
    count = round(TEST_SHARE * summary.train_clips)
    reason = f"about {count} clips to test on at the end; the data have no test split"
    return [Choice("data.test_fraction", TEST_SHARE, reason)]


def _choose_validation(summary: DataSummary) -> list[Choice]:
    share = validation_share(summary)
    if not share:
        return []
    whole = summary.train_clips * (1 - test_share(summary) if summary.folds else 1)
    reason = (
        f"about {round(share * whole)} clips to choose the best weights by; the data have no validation split"
    )
    return [Choice("data.validation_fraction", share, reason)]
